package sshconfig

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// Host is one Host block: a name that ssh knows while dstack is attached.
// Host keys are not checked unless that is said, as 0.22.5 does it: nobody told
// the user's machine about them.
type Host struct {
	Alias    string
	HostName string
	Port     int
	// User logs in; empty leaves it to the rest of the user's configuration.
	User string
	// IdentityFile is the path of a private key, the only one to be offered.
	// Empty leaves keys to the user's configuration and ssh-agent.
	IdentityFile string
	// CheckHostKey leaves host keys to the user's configuration.
	CheckHostKey bool
	// ProxyJump is the alias of the host to go through.
	ProxyJump string
	// ProxyCommand, in the words of ssh_config, is used instead of ProxyJump.
	ProxyCommand string
}

// The second line of each block of ours says so. 0.22.5 keeps comments within
// a block and removes them with it.
const (
	markPrefix = "    # dstack attach "
	// closing ends our blocks where options for all hosts follow: they would
	// be taken for options of our last host.
	closing = "Host *\n    # dstack attach: what follows is not ours\n"
)

// block is a block of ours as it stands in the file.
type block struct {
	owner string
	text  string
}

// newBlock writes the block of a host. All that decides the way to the host is
// said, so that a block of the same name further down adds nothing to it.
func (h Host) block(owner string, paths pathStyle) (block, error) {
	var b strings.Builder
	b.WriteString("Host " + h.Alias + "\n" + markPrefix + owner + "\n")
	option := func(key, value string) { b.WriteString("    " + key + " " + value + "\n") }
	option("HostName", strings.ReplaceAll(h.HostName, "%", "%%"))
	option("Port", strconv.Itoa(h.Port))
	if h.User != "" {
		option("User", quote(h.User))
	}
	if h.IdentityFile != "" {
		path, err := paths.identity(h.IdentityFile)
		if err != nil {
			return block{}, err
		}
		option("IdentityFile", path)
		option("IdentitiesOnly", "yes")
	}
	if !h.CheckHostKey {
		option("StrictHostKeyChecking", "no")
		option("UserKnownHostsFile", "/dev/null")
	}
	switch {
	case h.ProxyCommand != "":
		option("ProxyCommand", h.ProxyCommand)
	case h.ProxyJump != "":
		option("ProxyJump", h.ProxyJump)
	default:
		option("ProxyJump", "none")
	}
	return block{owner: owner, text: b.String()}, nil
}

// split takes our blocks out of a file and gives the rest as it is.
func split(file []byte) (ours []block, rest []byte) {
	for len(file) > 0 {
		if bytes.HasPrefix(file, []byte(closing)) {
			file = file[len(closing):]
			continue
		}
		if b, ok := blockAt(file); ok {
			ours, file = append(ours, b), file[len(b.text):]
			continue
		}
		line := firstLine(file)
		rest, file = append(rest, line...), file[len(line):]
	}
	return ours, rest
}

// blockAt reads a block of ours at the beginning of a text: its Host line, the
// mark, and the indented lines below it.
func blockAt(text []byte) (block, bool) {
	head := firstLine(text)
	if !bytes.HasPrefix(head, []byte("Host ")) {
		return block{}, false
	}
	mark := firstLine(text[len(head):])
	owner, ok := strings.CutPrefix(strings.TrimRight(string(mark), "\r\n"), markPrefix)
	if !ok {
		return block{}, false
	}
	end := len(head) + len(mark)
	for {
		line := firstLine(text[end:])
		if !indented(line) {
			return block{owner: owner, text: string(text[:end])}, true
		}
		end += len(line)
	}
}

// join puts our blocks before the rest of a file: ssh takes the first value
// that it finds.
func join(ours []block, rest []byte) []byte {
	if len(ours) == 0 {
		return rest
	}
	var file []byte
	for _, b := range ours {
		file = append(file, b.text...)
	}
	if !startsSection(rest) {
		file = append(file, closing...)
	}
	return append(file, rest...)
}

// startsSection says whether what follows our blocks can't be taken for part
// of them.
func startsSection(rest []byte) bool {
	if indented(firstLine(rest)) {
		return false
	}
	for len(rest) > 0 {
		line := firstLine(rest)
		if words := splitWords(string(line)); len(words) > 0 {
			return isSection(words[0])
		}
		rest = rest[len(line):]
	}
	return true
}

// replaceBlocks gives a file in which the owner's blocks are these, before all
// others.
func replaceBlocks(file []byte, owner string, blocks []block) []byte {
	ours, rest := split(file)
	ours = slices.DeleteFunc(ours, func(b block) bool { return b.owner == owner })
	return join(append(slices.Clone(blocks), ours...), rest)
}

// firstLine is the first line of a text with its end.
func firstLine(text []byte) []byte {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return text[:i+1]
	}
	return text
}

func indented(line []byte) bool {
	return len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
}
