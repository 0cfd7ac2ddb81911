package jobenv

import (
	"fmt"
	"strings"
)

// The lines around what is ours in an SSH client's configuration.
const (
	configBegin = "# dstack: the nodes of the run"
	configEnd   = "# dstack: end"
)

// SSHConfig returns config, the text of an SSH client's configuration, with
// a block for each node that says how to log in there with the key in the file
// key (spec: job-execution.md 10). The blocks come first, because the first
// value of an option counts; everything else stays as it is. Blocks that were
// there from an earlier run are replaced.
func SSHConfig(config string, nodes []string, key string) string {
	var b strings.Builder
	b.WriteString(configBegin + "\n")
	for _, ip := range nodes {
		if ip == "" {
			continue
		}
		fmt.Fprintf(&b, "Host %s\n  Port 10022\n  IdentityFile \"%s\"\n  IdentitiesOnly yes\n"+
			"  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n", ip, escape(key))
	}
	// What follows without a Host line of its own is for all hosts.
	b.WriteString("Host *\n" + configEnd + "\n")
	return b.String() + withoutOurs(config)
}

// escape is a file name as a quoted argument that tokens do not expand in.
func escape(name string) string { return strings.ReplaceAll(name, "%", "%%") }

func withoutOurs(config string) string {
	begin := strings.Index(config, configBegin+"\n")
	if begin < 0 || begin > 0 && config[begin-1] != '\n' {
		return config
	}
	_, after, found := strings.Cut(config[begin:], configEnd+"\n")
	if !found {
		return config
	}
	return config[:begin] + after
}
