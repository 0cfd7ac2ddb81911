// Package repo puts the code of a job into place: it clones a Git repo with
// the git of the image, or with Go's where there is none, and applies the
// user's changes. It runs in a process of its own, as the job's user: so the
// files are that user's, and the memory is given back.
package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"dstack/protocol/jobapi"
)

// Request is what the process reads from its standard input, as JSON.
type Request struct {
	jobapi.Repo
	// Dir is where the repo comes to: a folder of the job's user, empty but
	// perhaps for lost+found.
	Dir string `json:"dir"`
}

// DiffFD is the file descriptor with the user's changes, if Request.Code is
// not empty.
const DiffFD = 3

// CloneCommand is the command of this program that handles a [Request].
const CloneCommand = "clone"

// The commands that serve git while it clones.
const (
	credentialCommand = "git-credential" //nolint:gosec // a name
	sshCommand        = "git-ssh"
)

// The environment through which git's helpers get what opens the repo.
const (
	tokenVariable = "DSTACK_GIT_TOKEN" //nolint:gosec // a name
	keyVariable   = "DSTACK_GIT_KEY"
)

// maxRequest bounds a request in bytes.
const maxRequest = 1 << 20

// Command runs the command of this package that args name, after the name of
// the program, and gives its exit code; known is false for any other.
func Command(ctx context.Context, args []string, in io.Reader, out, said io.Writer) (code int, known bool, err error) {
	if len(args) == 0 {
		return 0, false, nil
	}
	switch args[0] {
	case CloneCommand:
		return 0, true, serve(ctx, in)
	case credentialCommand:
		return 0, true, answerCredential(args[len(args)-1], out)
	case sshCommand:
		code, err = runSSH(ctx, args[1:], in, out, said)
		return code, true, err
	}
	return 0, false, nil
}

// serve does what the request on in says. The error is a sentence without
// secrets.
func serve(ctx context.Context, in io.Reader) error {
	var req Request
	if err := json.NewDecoder(io.LimitReader(in, maxRequest)).Decode(&req); err != nil {
		return fmt.Errorf("read what to clone: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	var diff *os.File
	if req.Code != "" {
		diff = os.NewFile(DiffFD, "diff")
		defer diff.Close() //nolint:errcheck // only read
	}
	if err := set(ctx, choose(req, self), diff); err != nil {
		return errors.New(redact(err.Error(), req.OAuthToken, req.PrivateKey))
	}
	return nil
}

// worker is one way to handle a repo.
type worker interface {
	// clone fetches the repo and checks out what is wanted of it.
	clone(ctx context.Context) error
	// apply changes the working copy by a diff.
	apply(ctx context.Context, diff io.Reader) error
}

// set clones the repo and applies diff, if it is not nil.
func set(ctx context.Context, w worker, diff *os.File) error {
	if err := w.clone(ctx); err != nil {
		return err
	}
	if diff == nil {
		return nil
	}
	if err := w.apply(ctx, diff); err != nil {
		return fmt.Errorf("apply your changes: %w", err)
	}
	return nil
}

// choose takes git if it can do it.
func choose(req Request, self string) worker {
	path, err := exec.LookPath("git")
	if err != nil || strings.HasPrefix(req.CloneURL, "http") && !hasHTTP(path) {
		return &library{req: req}
	}
	return &program{req: req, git: path, self: self}
}

// hasHTTP says whether git was installed with what it needs for HTTP.
func hasHTTP(git string) bool {
	out, err := exec.Command(git, "--exec-path").Output()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(strings.TrimSpace(string(out)), "git-remote-http"))
	return err == nil
}

func redact(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	return text
}

// noCommit says that the commit is not in what was fetched.
func noCommit(hash string) error {
	return fmt.Errorf("commit %s is not in the repo: push it, or choose one that is", hash)
}
