package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/memory"
	"golang.org/x/crypto/ssh"
)

// library does without git: with go-git, which knows no LFS and is slower.
type library struct{ req Request }

// access is what opens the repo.
func (l *library) access() (transport.AuthMethod, error) {
	switch {
	case l.req.PrivateKey != "":
		user := "git"
		if u, err := url.Parse(l.req.CloneURL); err == nil && u.User.Username() != "" {
			user = u.User.Username()
		}
		keys, err := gitssh.NewPublicKeys(user, []byte(l.req.PrivateKey), "")
		if err != nil {
			return nil, fmt.Errorf("read the repo's SSH key: %w", err)
		}
		keys.HostKeyCallback = ssh.InsecureIgnoreHostKey() //nolint:gosec // as in 0.22.5: nobody knows the key
		return keys, nil
	case l.req.OAuthToken != "":
		return &http.BasicAuth{Username: "anything", Password: l.req.OAuthToken}, nil
	}
	return nil, nil
}

func (l *library) clone(ctx context.Context) error {
	auth, err := l.access()
	if err != nil {
		return err
	}
	tree := osfs.New(l.req.Dir)
	store := filesystem.NewStorage(osfs.New(filepath.Join(l.req.Dir, git.GitDirName)), cache.NewObjectLRUDefault())
	options := &git.CloneOptions{URL: l.req.CloneURL, Auth: auth, SingleBranch: l.req.SingleBranch, NoCheckout: true}
	if l.req.Branch != "" {
		options.ReferenceName = plumbing.NewBranchReferenceName(l.req.Branch)
	} else if l.req.SingleBranch {
		// go-git would take HEAD for the branch.
		if options.ReferenceName, err = l.defaultBranch(ctx, auth); err != nil {
			return err
		}
	}
	repo, err := git.CloneContext(ctx, store, tree, options)
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if err := l.checkOut(ctx, repo, auth); err != nil {
		return err
	}
	return l.configure(repo)
}

// defaultBranch is what the remote's HEAD names; "" if the repo is empty.
func (l *library) defaultBranch(ctx context.Context, auth transport.AuthMethod) (plumbing.ReferenceName, error) {
	remote := git.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{l.req.CloneURL}})
	refs, err := remote.ListContext(ctx, &git.ListOptions{Auth: auth})
	if err != nil && !errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return "", fmt.Errorf("clone: %w", err)
	}
	for _, ref := range refs {
		if ref.Name() == plumbing.HEAD && ref.Type() == plumbing.SymbolicReference {
			return ref.Target(), nil
		}
	}
	return "", nil
}

func (l *library) checkOut(ctx context.Context, repo *git.Repository, auth transport.AuthMethod) error {
	tree, err := repo.Worktree()
	if err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	if l.req.Hash == "" {
		err = tree.Reset(&git.ResetOptions{Mode: git.HardReset})
	} else {
		var commit *plumbing.Hash
		if commit, err = l.find(ctx, repo, auth); err != nil {
			return err
		}
		if l.req.Branch == "" {
			err = repo.Storer.SetReference(plumbing.NewHashReference(plumbing.HEAD, *commit))
		}
		if err == nil {
			err = tree.Reset(&git.ResetOptions{Mode: git.HardReset, Commit: *commit})
		}
	}
	if err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	modules, err := tree.Submodules()
	if err != nil {
		return fmt.Errorf("read submodules: %w", err)
	}
	err = modules.UpdateContext(ctx, &git.SubmoduleUpdateOptions{Init: true, RecurseSubmodules: git.DefaultSubmoduleRecursionDepth, Auth: auth})
	if err != nil {
		return fmt.Errorf("fetch submodules: %w", err)
	}
	return nil
}

// find gives the commit, fetching all branches if it is not there.
func (l *library) find(ctx context.Context, repo *git.Repository, auth transport.AuthMethod) (*plumbing.Hash, error) {
	if commit, err := repo.ResolveRevision(plumbing.Revision(l.req.Hash)); err == nil {
		return commit, nil
	}
	err := repo.FetchContext(ctx, &git.FetchOptions{Auth: auth, RefSpecs: []config.RefSpec{"+refs/heads/*:refs/remotes/origin/*"}})
	if err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	commit, err := repo.ResolveRevision(plumbing.Revision(l.req.Hash))
	if err != nil {
		return nil, noCommit(l.req.Hash)
	}
	return commit, nil
}

func (l *library) configure(repo *git.Repository) error {
	cfg, err := repo.Config()
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	cfg.User.Name, cfg.User.Email = l.req.ConfigName, l.req.ConfigEmail
	if err := repo.SetConfig(cfg); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return nil
}

func (l *library) apply(_ context.Context, diff io.Reader) error { return applyDiff(diff, l.req.Dir) }
