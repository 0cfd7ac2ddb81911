package config

import (
	"errors"
	"fmt"
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
	if u.UID, u.Username, err = userPart(user, "user", "uid"); err != nil {
		return UnixUser{}, err
	}
	if !hasGroup {
		return u, nil
	}
	if strings.Contains(group, ":") {
		return UnixUser{}, errors.New("invalid user format: too many parts")
	}
	u.GID, u.Groupname, err = userPart(group, "group", "gid")
	if err != nil {
		return UnixUser{}, err
	}
	return u, nil
}

func userPart(s, kind, number string) (*int, *string, error) {
	if s == "" {
		return nil, nil, fmt.Errorf("invalid user format: empty %s name or id", kind)
	}
	id, ok := decimal(s)
	switch {
	case !ok:
		return nil, &s, nil
	case id < 0:
		return nil, nil, fmt.Errorf("invalid user format: negative %s %d", number, id)
	}
	return &id, nil, nil
}
