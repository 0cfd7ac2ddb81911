// Package hostkeys keeps the SSH keys of running tasks in the authorized_keys
// of the host's users. Lines of ours end in a marker; others are not touched.
package hostkeys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Marker ends each line that the shim added.
const Marker = " # added by dstack-shim"

const (
	folder   = ".ssh"
	fileName = ".ssh/authorized_keys"
	tempName = ".ssh/authorized_keys.dstack-shim"
)

// Grant lets keys log in while a task lives.
type Grant struct {
	Keys []string
	// WholeHost gives plain keys; others may only be forwarded to Port.
	WholeHost bool
	// Port is the task's SSH port on the host's localhost; while it is 0,
	// restricted keys open nothing and are left out.
	Port int
}

// Lines are the lines for a set of grants, sorted. Each key has one line with
// all its ports, because sshd uses the first line of a key and no other. A key
// that is whole-host for one task is so for its user.
func Lines(grants []Grant) []string {
	byKey := map[string]Grant{}
	ports := map[string][]int{}
	for _, g := range grants {
		for _, key := range g.Keys {
			key = strings.TrimSpace(key)
			if !plausible(key) {
				continue
			}
			id := identity(key)
			known, ok := byKey[id]
			if !ok {
				known.Keys = []string{key}
			}
			known.WholeHost = known.WholeHost || g.WholeHost
			byKey[id] = known
			if g.Port != 0 {
				ports[id] = append(ports[id], g.Port)
			}
		}
	}
	var lines []string
	for id, g := range byKey {
		switch {
		case g.WholeHost:
			lines = append(lines, g.Keys[0]+Marker)
		case len(ports[id]) > 0:
			lines = append(lines, jumpOptions(ports[id])+" "+g.Keys[0]+Marker)
		}
	}
	slices.Sort(lines)
	return lines
}

// jumpOptions let a key be forwarded to ports and do nothing else. Without the
// last two, it could listen and run commands. What OpenSSH lets no key be
// denied is a new unix socket in a folder that its user may write to; the
// host's administrator can (AllowStreamLocalForwarding).
func jumpOptions(ports []int) string {
	slices.Sort(ports)
	var open strings.Builder
	for _, port := range slices.Compact(ports) {
		open.WriteString(`,permitopen="localhost:` + strconv.Itoa(port) + `"`)
	}
	return "restrict,port-forwarding" + open.String() + `,permitlisten="localhost:` + strconv.Itoa(listenPort) + `",command="/bin/false"`
}

// identity is a key without its comment.
func identity(key string) string {
	kind, rest, _ := strings.Cut(key, " ")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return key
	}
	return kind + " " + fields[0]
}

// plausible says whether text is one public key without options: it must not
// be able to bring a second line or options of its own.
func plausible(key string) bool {
	if strings.ContainsAny(key, "\n\r\x00") {
		return false
	}
	for _, kind := range []string{"ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"} {
		if strings.HasPrefix(key, kind) {
			return strings.Contains(key, " ")
		}
	}
	return false
}

// Apply makes lines the only marked ones in the file of the user whose home
// is given. The home is the user's, who may put symbolic links there: nothing
// outside of it is followed or written.
func Apply(home string, uid, gid int, lines []string) (err error) {
	root, err := os.OpenRoot(home)
	if err != nil {
		return fmt.Errorf("open home: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	old, err := read(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read authorized keys: %w", err)
	}
	content := merge(old, lines)
	if content == old {
		return nil
	}
	return replace(root, uid, gid, content)
}

// maxFile is the size of a file of keys in bytes that is still one.
const maxFile = 1 << 20

// read reads the file of keys, and waits for nobody: a pipe in its place would
// hold up the keys of all tasks.
func read(root *os.Root) (text string, err error) {
	f, err := root.OpenFile(fileName, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return "", fmt.Errorf("it is no regular file of at most %d bytes", maxFile)
	}
	data, err := io.ReadAll(f)
	return string(data), err
}

// merge is the text with all marked lines replaced by lines.
func merge(old string, lines []string) string {
	var out strings.Builder
	for line := range strings.Lines(old) {
		line = strings.TrimRight(line, "\n")
		if !strings.HasSuffix(line, Marker) {
			out.WriteString(line + "\n")
		}
	}
	for _, line := range lines {
		out.WriteString(line + "\n")
	}
	return out.String()
}

func replace(root *os.Root, uid, gid int, content string) error {
	if err := root.Mkdir(folder, 0o700); err == nil {
		if err := root.Chown(folder, uid, gid); err != nil {
			return fmt.Errorf("hand over .ssh: %w", err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make .ssh: %w", err)
	}
	if err := root.Remove(tempName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old temporary file: %w", err)
	}
	f, err := root.OpenFile(tempName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create authorized keys: %w", err)
	}
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Chown(uid, gid), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write authorized keys: %w", err)
	}
	if err := root.Rename(tempName, fileName); err != nil {
		return fmt.Errorf("replace authorized keys: %w", err)
	}
	return nil
}
