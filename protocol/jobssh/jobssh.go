// Package jobssh is what the SSH server of a job understands beyond the
// standards: requests on a session channel with a JSON payload. A server that
// does not know them refuses, and clients do without.
package jobssh

const (
	// Exec starts a program with its arguments as they are, without a shell
	// in between; the payload is a [Program]. What follows is as with "exec".
	Exec = "exec@dstack.ai"
	// Sum computes a checksum on the job's side; the payload is a [File].
	// Output is the SHA-256 in hex; a failure is told on stderr with exit
	// status 1.
	Sum = "sha256@dstack.ai"
)

// Program is what to start.
type Program struct {
	// Args are the program and its arguments; none means a login shell.
	Args []string `json:"args"`
	// Dir is where it starts; empty means where the job's commands did.
	Dir string `json:"dir,omitempty"`
	// Env are entries "NAME=value" on top of the job's environment.
	Env []string `json:"env,omitempty"`
}

// File is a file, or its first bytes.
type File struct {
	// Path is relative to the home folder unless it is absolute.
	Path string `json:"path"`
	// Length is how many bytes count, from the first on. A shorter file is an
	// error.
	Length int64 `json:"length"`
}
