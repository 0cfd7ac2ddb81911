// Package account finds the user that a job runs as, by the files of the
// image alone: no library of the host is asked, and neither file need exist.
package account

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// User is who a job runs as.
type User struct {
	// Name is the user's name, or its number if it has none.
	Name string
	UID  uint32
	GID  uint32
	// Groups are the supplementary groups.
	Groups []uint32
	// Home is "/" for a user without one; nothing is written there then.
	Home string
	// Shell is the login shell; empty if the user has none to log in with.
	Shell string
}

// Resolve finds the user named by spec, which is "user[:group]" with names or
// numbers, in the contents of /etc/passwd and /etc/group. A number need not
// be known, a name must be. With a group the user is in that group only, else
// in those of the files, else in group 0.
func Resolve(spec, passwd, group string) (User, error) {
	name, groupName, hasGroup := strings.Cut(spec, ":")
	u, err := findUser(name, passwd)
	if err != nil {
		return User{}, err
	}
	if hasGroup {
		u.Groups = nil
		u.GID, err = findGroup(groupName, group)
		return u, err
	}
	for fields := range entries(group, 4) {
		gid, ok := id(fields[2])
		if ok && gid != u.GID && slices.Contains(strings.Split(fields[3], ","), u.Name) {
			u.Groups = append(u.Groups, gid)
		}
	}
	return u, nil
}

func findUser(name, passwd string) (User, error) {
	number, numeric := id(name)
	for fields := range entries(passwd, 7) {
		uid, ok := id(fields[2])
		gid, okGroup := id(fields[3])
		if !ok || !okGroup {
			continue
		}
		if fields[0] == name || numeric && uid == number {
			return User{Name: fields[0], UID: uid, GID: gid, Home: home(fields[5]), Shell: shell(fields[6])}, nil
		}
	}
	switch {
	case name == "root", numeric && number == 0: // true of every image, with or without the file
		return User{Name: "root", Home: "/"}, nil
	case numeric:
		return User{Name: name, UID: number, Home: "/"}, nil
	}
	return User{}, fmt.Errorf("no user %q in /etc/passwd of the image", name)
}

func findGroup(name, group string) (uint32, error) {
	if gid, ok := id(name); ok {
		return gid, nil
	}
	for fields := range entries(group, 4) {
		if gid, ok := id(fields[2]); ok && fields[0] == name {
			return gid, nil
		}
	}
	if name == "root" {
		return 0, nil
	}
	return 0, fmt.Errorf("no group %q in /etc/group of the image", name)
}

// home maps the ways to say "no home" to "/".
func home(dir string) string {
	if !strings.HasPrefix(dir, "/") || strings.Contains(dir, "nonexistent") {
		return "/"
	}
	return dir
}

// shell maps programs that only refuse a login to no shell.
func shell(path string) string {
	switch name := path[strings.LastIndexByte(path, '/')+1:]; {
	case !strings.HasPrefix(path, "/"), name == "nologin", name == "false":
		return ""
	}
	return path
}

func id(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// entries yields the fields of each line that has n of them.
func entries(file string, n int) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.SplitSeq(file, "\n") {
			fields := strings.Split(line, ":")
			if len(fields) == n && fields[0] != "" && !yield(fields) {
				return
			}
		}
	}
}
