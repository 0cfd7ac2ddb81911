// Package templates reads the templates of the web UI from git repos (shared
// spec: configuration.md 11).
package templates

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/singleflight"

	"dstack/protocol/config"
)

const (
	// folder is where the templates lie in a repo.
	folder = ".dstack/templates/"
	// keep is how long what was read is taken for true.
	keep = 180 * time.Second
	// checkLimit and readLimit bound a look at a remote repo and a download.
	checkLimit = 20 * time.Second
	readLimit  = time.Minute
	// Limits on what a repo may have: more is left out.
	mostRepos = 100
	mostFiles = 200
	mostBytes = 256 << 10
)

// Repos reads repos with the program git. Nothing of a repo is checked out,
// and nothing that it names is run.
type Repos struct {
	dir string
	now func() time.Time
	log zerolog.Logger

	reading singleflight.Group
	mu      sync.Mutex
	read    map[string]result // by URL
}

type result struct {
	at   time.Time
	list []config.Template
}

// New makes a reader that downloads to a folder, which it makes and cleans.
func New(dir string, now func() time.Time, log zerolog.Logger) *Repos {
	return &Repos{dir: dir, now: now, log: log, read: map[string]result{}}
}

// Check says whether a repo can be read and has a commit. A repo on this
// machine is refused: who asks need not be somebody who may read its files.
func (*Repos) Check(ctx context.Context, url string) error {
	if !remote(url) {
		return errors.New("it is not the URL of a repo on another machine")
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	_, err := git(ctx, "ls-remote", "--exit-code", "--", url, "HEAD")
	return err
}

// remote says whether git takes url for a repo that is not a path here: the URL
// of a protocol that we allow, or HOST:PATH with no slash in front of the colon.
func remote(url string) bool {
	if scheme, _, ok := strings.Cut(url, "://"); ok {
		return slices.Contains([]string{"http", "https", "git", "ssh"}, scheme)
	}
	host, path, ok := strings.Cut(url, ":")
	return ok && host != "" && !strings.HasPrefix(path, ":") && !strings.Contains(host, "/")
}

// List gives the valid templates of a repo in the order of their files. What
// cannot be read is logged and left out.
func (r *Repos) List(ctx context.Context, url string) []config.Template {
	r.mu.Lock()
	got, ok := r.read[url]
	r.mu.Unlock()
	if ok && r.now().Sub(got.at) < keep {
		return got.list
	}
	// Others may wait for the same repo, so a caller that leaves ends nothing.
	ctx = context.WithoutCancel(ctx)
	list, _, _ := r.reading.Do(url, func() (any, error) {
		ctx, cancel := context.WithTimeout(ctx, readLimit)
		defer cancel()
		list, err := r.fetch(ctx, url)
		if err != nil {
			r.log.Warn().Err(err).Str("repo", redacted(url)).Msg("Templates cannot be read")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.read) >= mostRepos {
			clear(r.read)
		}
		r.read[url] = result{r.now(), list}
		return list, nil
	})
	templates, _ := list.([]config.Template)
	return templates
}

func (r *Repos) fetch(ctx context.Context, url string) ([]config.Template, error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder for templates: %w", err)
	}
	clone, err := os.MkdirTemp(r.dir, "clone-")
	if err != nil {
		return nil, fmt.Errorf("make folder for templates: %w", err)
	}
	defer func() {
		if err := os.RemoveAll(clone); err != nil {
			r.log.Warn().Err(err).Msg("Downloaded templates cannot be deleted")
		}
	}()
	if _, err := git(ctx, "clone", "--quiet", "--bare", "--depth=1", "--filter=blob:limit="+strconv.Itoa(mostBytes), "--", url, clone); err != nil {
		return nil, err
	}
	files, err := git(ctx, "-C", clone, "ls-tree", "-z", "--long", "HEAD", "--", folder)
	if err != nil {
		return nil, err
	}
	list := []config.Template{}
	for i, line := range strings.Split(strings.TrimSuffix(string(files), "\x00"), "\x00") {
		if i == mostFiles {
			r.log.Warn().Str("repo", redacted(url)).Msgf("There are more than %d files of templates: the rest is left out", mostFiles)
			break
		}
		t, err := template(ctx, clone, line)
		if err != nil {
			r.log.Warn().Err(err).Str("repo", redacted(url)).Msg("A template is left out")
		}
		if t != nil {
			list = append(list, *t)
		}
	}
	return list, nil
}

// template reads the file that a line of git ls-tree names; nil if it is none
// of a template.
func template(ctx context.Context, clone, line string) (*config.Template, error) {
	what, name, _ := strings.Cut(line, "\t")
	part := strings.Fields(what) // mode, type, id, size
	if len(part) < 4 || part[1] != "blob" {
		return nil, nil //nolint:nilnil // a folder is no error
	}
	if ext := path.Ext(name); ext != ".yml" && ext != ".yaml" {
		return nil, nil //nolint:nilnil // another file is no error
	}
	if size, err := strconv.Atoi(part[3]); err != nil || size > mostBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, mostBytes)
	}
	data, err := git(ctx, "-C", clone, "cat-file", "blob", part[2])
	if err != nil {
		return nil, err
	}
	t, err := config.DecodeTemplate(name, data)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	return &t, nil
}

// git runs git so that it asks for nothing, runs no program that a URL names,
// and knows no password or key of the server's own user: who names a repo must
// not read with them. It returns what git prints.
func git(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "SSH_AUTH_SOCK=",
		"GIT_ALLOW_PROTOCOL=file:git:http:https:ssh", "HOME="+os.DevNull, "XDG_CONFIG_HOME="+os.DevNull, // .netrc, credentials
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull, "GIT_CONFIG_COUNT=0",
		"GIT_SSH_COMMAND=ssh -F none -oBatchMode=yes -oConnectTimeout=10 -oIdentitiesOnly=yes -oIdentityFile=none")
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("the server has no git: install it")
	}
	if err != nil {
		verb := args[0]
		if verb == "-C" {
			verb = args[2]
		}
		return nil, fmt.Errorf("git %s: %w: %s", verb, err, strings.TrimSpace(problem.String()))
	}
	return out.Bytes(), nil
}

// Clean deletes what a server that was killed left behind.
func (r *Repos) Clean() error {
	left, err := filepath.Glob(filepath.Join(r.dir, "clone-*"))
	if err != nil {
		return fmt.Errorf("list downloaded templates: %w", err)
	}
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// redacted is an address without the password that it may hold.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(not an address)"
	}
	return u.Redacted()
}
