package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"dstack/protocol/words"
)

// program uses the git of the image.
type program struct {
	req       Request
	git, self string
}

// stalled ends a transfer that gets less than a byte a second for a minute.
var stalled = []string{"-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60"}

// run runs git in the repo's folder.
func (p *program) run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	all := append(slices.Clone(stalled), "-c", "safe.directory=*", "-c", "advice.detachedHead=false", "-c", "gc.auto=0")
	all = append(all, p.credentials()...)
	cmd := exec.CommandContext(ctx, p.git, append(all, args...)...)
	var out, said bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.req.Dir, p.environment(), stdin, &out, &said
	err := cmd.Run()
	switch {
	case err == nil:
		return strings.TrimSpace(out.String()), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	}
	if text := lastWords(said.String()); text != "" {
		err = errors.New(text)
	}
	return "", fmt.Errorf("git %s: %w", args[0], err)
}

// credentials lets git ask this program for the token, for the repo's host
// only: submodules may be elsewhere.
func (p *program) credentials() []string {
	u, err := url.Parse(p.req.CloneURL)
	if p.req.OAuthToken == "" || err != nil {
		return nil
	}
	site := u.Scheme + "://" + u.Host
	return []string{"-c", "credential.helper=", "-c", "credential." + site + ".helper=!" + words.Quote(p.self) + " " + credentialCommand}
}

func (p *program) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GIT_") && !strings.HasPrefix(v, "GIT_SSL_") && !strings.HasPrefix(v, "GIT_CONFIG_")
	})
	env = append(env, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", tokenVariable+"="+p.req.OAuthToken)
	if p.req.PrivateKey != "" {
		env = append(env, keyVariable+"="+p.req.PrivateKey, "GIT_SSH_COMMAND="+words.Quote(p.self)+" "+sshCommand, "GIT_SSH_VARIANT=ssh")
	}
	return env
}

// maxWords bounds what of git's words is shown, in bytes.
const maxWords = 500

// lastWords is the end of what git said, without progress.
func lastWords(said string) string {
	var lines []string
	for line := range strings.SplitSeq(said, "\n") {
		line = strings.TrimSpace(line[strings.LastIndexByte(line, '\r')+1:])
		if line != "" && !strings.HasPrefix(line, "hint:") {
			lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(line, "fatal: "), "error: "))
		}
	}
	text := strings.Join(lines[max(len(lines)-3, 0):], "; ")
	return text[max(len(text)-maxWords, 0):]
}

// steps runs git several times until one fails.
func (p *program) steps(ctx context.Context, steps ...[]string) error {
	for _, args := range steps {
		if _, err := p.run(ctx, nil, args...); err != nil {
			return err
		}
	}
	return nil
}

// clone does what `git clone` does, but in a folder that need not be empty.
func (p *program) clone(ctx context.Context) error {
	if err := p.steps(ctx, []string{"init", "-q"}); err != nil {
		return err
	}
	branch := p.req.Branch
	if branch == "" {
		var err error
		if branch, err = p.defaultBranch(ctx); err != nil {
			return err
		}
	}
	remote := []string{"remote", "add", "origin", p.req.CloneURL}
	if p.req.SingleBranch && branch != "" {
		remote = []string{"remote", "add", "-t", branch, "origin", p.req.CloneURL}
	}
	if err := p.steps(ctx, remote, []string{"fetch", "-q", "--no-recurse-submodules", "origin"}); err != nil {
		return err
	}
	if err := p.checkOut(ctx, branch); err != nil {
		return err
	}
	for name, value := range map[string]string{"user.name": p.req.ConfigName, "user.email": p.req.ConfigEmail} {
		if value != "" {
			if err := p.steps(ctx, []string{"config", name, value}); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stat(filepath.Join(p.req.Dir, ".gitmodules")); err == nil {
		return p.steps(ctx, []string{"submodule", "--quiet", "update", "--init", "--recursive"})
	}
	return nil
}

// defaultBranch is the branch that the remote's HEAD names; "" if it names none.
func (p *program) defaultBranch(ctx context.Context) (string, error) {
	text, err := p.run(ctx, nil, "ls-remote", "--symref", p.req.CloneURL, "HEAD")
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "ref: refs/heads/"); ok {
			branch, _, _ := strings.Cut(rest, "\t")
			return branch, nil
		}
	}
	return "", nil
}

func (p *program) checkOut(ctx context.Context, branch string) error {
	commit := "refs/remotes/origin/" + branch
	if hash := p.req.Hash; hash != "" {
		full, err := p.find(ctx, hash)
		if err != nil {
			return err
		}
		if p.req.Branch == "" {
			return p.steps(ctx, []string{"checkout", "-q", "--detach", full})
		}
		commit = full
	}
	if branch == "" {
		return nil // the repo is empty
	}
	return p.steps(ctx,
		[]string{"symbolic-ref", "HEAD", "refs/heads/" + branch},
		[]string{"reset", "-q", "--hard", commit},
		[]string{"config", "branch." + branch + ".remote", "origin"},
		[]string{"config", "branch." + branch + ".merge", "refs/heads/" + branch},
	)
}

// find gives the full hash of a commit, fetching more if it is not there.
func (p *program) find(ctx context.Context, hash string) (string, error) {
	verify := func() (string, error) {
		return p.run(ctx, nil, "rev-parse", "--verify", "-q", hash+"^{commit}")
	}
	if full, err := verify(); err == nil {
		return full, nil
	}
	_, err := p.run(ctx, nil, "fetch", "-q", "--no-recurse-submodules", "origin", "+refs/heads/*:refs/remotes/origin/*")
	if err != nil {
		return "", err
	}
	if full, err := verify(); err == nil {
		return full, nil
	}
	// Many sites give a commit that no branch has, if its whole hash is known.
	if _, err := p.run(ctx, nil, "fetch", "-q", "--no-recurse-submodules", "origin", hash); err == nil {
		if full, err := verify(); err == nil {
			return full, nil
		}
	}
	return "", noCommit(hash)
}

func (p *program) apply(ctx context.Context, diff io.Reader) error {
	_, err := p.run(ctx, diff, "apply", "--binary", "--whitespace=nowarn", "-")
	return err
}
