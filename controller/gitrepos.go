package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// gitTimeout bounds a look at a remote repo.
const gitTimeout = 20 * time.Second

// gitRepos looks at git repos with the program git.
type gitRepos struct{}

// Check says whether the repo can be read and has a commit.
func (gitRepos) Check(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	// "--": a URL that looks like an option is none. git asks for nothing and
	// runs no program that a URL names.
	cmd := exec.CommandContext(ctx, "git", "ls-remote", "--exit-code", "--", url, "HEAD")
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=file:git:http:https:ssh",
		"GIT_SSH_COMMAND=ssh -oBatchMode=yes -oConnectTimeout=10")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("the server has no git: install it")
	}
	if err != nil {
		return fmt.Errorf("git ls-remote: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
