// Package jobenv computes the environment of a job and the files that carry
// it to login shells. The rules are those of dstack 0.22.5.
package jobenv

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dstack/protocol/jobapi"
)

// Places are paths that the agent has resolved for the job.
type Places struct {
	Home       string
	WorkingDir string
	RepoDir    string
	// Hostfile is the MPI host file.
	Hostfile string
}

// Build returns the job's environment, sorted, each entry "NAME=value". From
// lowest to highest precedence: base (the container's), the DSTACK_*
// variables and HOME, the job's own. Exported bash functions in base are left out.
func Build(base []string, spec *jobapi.Spec, at Places) []string {
	env := make(map[string]string, len(base)+len(spec.Env)+16)
	for _, entry := range base {
		name, value, ok := strings.Cut(entry, "=")
		if ok && name != "" && !strings.HasPrefix(name, "BASH_FUNC_") {
			env[name] = value
		}
	}
	maps.Copy(env, map[string]string{
		"HOME":                  at.Home,
		"DSTACK_RUN_ID":         spec.RunID,
		"DSTACK_JOB_ID":         spec.JobID,
		"DSTACK_RUN_NAME":       spec.RunName,
		"DSTACK_REPO_ID":        spec.RepoID,
		"DSTACK_REPO_DIR":       at.RepoDir,
		"DSTACK_WORKING_DIR":    at.WorkingDir,
		"DSTACK_NODES_IPS":      strings.Join(spec.NodesIPs, "\n"),
		"DSTACK_MASTER_NODE_IP": spec.MasterIP,
		"DSTACK_NODE_RANK":      strconv.Itoa(spec.NodeRank),
		"DSTACK_NODES_NUM":      strconv.Itoa(spec.NodesNum),
		"DSTACK_GPUS_PER_NODE":  strconv.Itoa(spec.GPUsPerNode),
		"DSTACK_GPUS_NUM":       strconv.Itoa(spec.GPUsNum),
		"DSTACK_MPI_HOSTFILE":   at.Hostfile,
	})
	maps.Copy(env, spec.Env)
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// Lookup returns the value of a variable in env, "" if it is not set.
func Lookup(env []string, name string) string {
	for _, entry := range env {
		if n, value, _ := strings.Cut(entry, "="); n == name {
			return value
		}
	}
	return ""
}

// Hostfile returns the MPI host file: the nodes and their slots, one a line;
// empty if the address of any is unknown.
func Hostfile(spec *jobapi.Spec) string {
	if slices.Contains(spec.NodesIPs, "") {
		return ""
	}
	var b strings.Builder
	for i, ip := range spec.NodesIPs {
		b.WriteString(ip)
		gpus := spec.GPUsPerNode
		if i < len(spec.NodesGPUs) {
			gpus = spec.NodesGPUs[i]
		}
		if gpus > 0 {
			fmt.Fprintf(&b, " slots=%d", gpus)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Profile returns a script that gives a login shell the environment env and
// goes to the working directory. What belongs to the shell itself is left
// out, and so are names that a shell cannot export.
func Profile(env []string) string {
	own := []string{"HOSTNAME", "USER", "HOME", "SHELL", "SHLVL", "PWD", "_"}
	var b strings.Builder
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if identifier(name) && !slices.Contains(own, name) {
			fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
		}
	}
	b.WriteString("cd \"$DSTACK_WORKING_DIR\"\n")
	return b.String()
}

func identifier(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// marker ends the line that AddToProfile adds, so that it is added once.
const marker = "# added by dstack"

// AddToProfile returns the text of /etc/profile with a line that sources the
// script at path for users who may read it, and whether that is a change.
func AddToProfile(profile, path string) (text string, changed bool) {
	for line := range strings.SplitSeq(profile, "\n") {
		if strings.HasSuffix(line, marker) {
			return profile, false
		}
	}
	if profile != "" && !strings.HasSuffix(profile, "\n") {
		profile += "\n"
	}
	return profile + fmt.Sprintf("if [ -r %s ]; then . %s; fi %s\n", path, path, marker), true
}
