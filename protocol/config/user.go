package config

import (
	"errors"
	"strings"
)

// UnixUser is a parsed `user`: each part is a number or a name.
type UnixUser struct {
	UID       *int    `json:"uid"`
	GID       *int    `json:"gid"`
	Username  *string `json:"username"`
	Groupname *string `json:"groupname"`
}

// ParseUser parses USER[:GROUP]; a part of digits is a number.
func ParseUser(s string) (UnixUser, error) {
	user, group, hasGroup := strings.Cut(s, ":")
	var u UnixUser
	var err error
	if u.UID, u.Username, err = userPart(user); err != nil {
		return UnixUser{}, err
	}
	if !hasGroup {
		return u, nil
	}
	if strings.Contains(group, ":") {
		return UnixUser{}, errors.New("more than one ':'")
	}
	u.GID, u.Groupname, err = userPart(group)
	if err != nil {
		return UnixUser{}, err
	}
	return u, nil
}

func userPart(s string) (*int, *string, error) {
	if s == "" {
		return nil, nil, errors.New("user or group part is empty")
	}
	id, ok := decimal(s)
	switch {
	case !ok:
		return nil, &s, nil
	case id < 0:
		return nil, nil, errors.New("user or group number is negative")
	}
	return &id, nil, nil
}
