package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dstack/cli/archive"
	"dstack/cli/repo"
	"dstack/client"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// sources are what a run gets from this machine.
type sources struct {
	repoID string
	// diff is how the working copy differs from the repo; nil if it does not.
	diff *client.Upload
	file *os.File
}

// close removes what was kept for the upload.
func (s *sources) close() {
	if s.file != nil {
		_ = s.file.Close() // it has no name any more
	}
}

// upload sends the diff, once the plan was agreed on.
func (s *sources) upload(ctx context.Context, to *session) error {
	if s.diff == nil {
		return nil
	}
	return to.UploadCode(ctx, s.repoID, *s.diff)
}

// addSources finds the repo and packs the files of a run, and writes into
// spec how the job gets them (spec: cli.md 9). path is that of the
// configuration file; what it names is relative to its folder.
func (a *App) addSources(ctx context.Context, s *session, flags runFlags, verbose bool, spec *api.RunSpec, path string) (*sources, error) {
	dir := filepath.Dir(path)
	if path == "-" {
		dir = "."
	}
	live := a.Live()
	live.Show("Preparing repo and files...", "")
	defer live.Clear()
	base := spec.Configuration.Base()
	if len(base.Repos) > 0 {
		where := base.Repos[0].Path
		spec.RepoDir = &where
	}
	src, err := a.addRepo(ctx, s, flags, base, spec, dir)
	if err != nil {
		return nil, err
	}
	if err := a.addFiles(ctx, s, verbose, base, spec, dir); err != nil {
		src.close()
		return nil, err
	}
	return src, nil
}

// addRepo adds the repo that the options or the configuration name.
func (a *App) addRepo(ctx context.Context, s *session, flags runFlags, base *config.RunBase, spec *api.RunSpec, dir string) (*sources, error) {
	src := &sources{}
	var local, remote string
	branch, hash := flags.repoBranch, flags.repoHash
	switch {
	case flags.noRepo || flags.repo == "" && len(base.Repos) == 0:
		return src, nil
	case flags.repo != "" && repo.IsURL(flags.repo):
		remote = flags.repo
	case flags.repo != "":
		local, dir = flags.repo, "."
	default:
		r := base.Repos[0]
		local, remote = deref(r.LocalPath), deref(r.URL)
		if branch == "" {
			branch = deref(r.Branch)
		}
		if hash == "" {
			hash = deref(r.Hash)
		}
	}
	data := api.RepoData{RepoType: api.RepoRemote, RepoBranch: optional(branch), RepoHash: optional(hash)}
	if local != "" {
		copied, err := a.openCopy(ctx, local, dir)
		if err != nil {
			return nil, err
		}
		remote = copied.Remote
		data.RepoBranch, data.RepoHash = &copied.Branch, &copied.Hash
		data.RepoConfigName, data.RepoConfigEmail = optional(copied.Name), optional(copied.Email)
		if err := a.writeDiff(ctx, src, copied, spec); err != nil {
			return nil, err
		}
	}
	finder := a.finder(repoAccess{flags.token, flags.gitIdent})
	u, err := repo.ParseURL(remote, hostNames(ctx, finder))
	if err == nil {
		data.RepoName, src.repoID = u.Name(), u.ID()
		err = a.ensureCreds(ctx, s, finder, u)
	}
	if err != nil {
		src.close()
		return nil, err
	}
	spec.RepoID, spec.RepoData = &src.repoID, &data
	return src, nil
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// openCopy opens the working copy at a path relative to dir.
func (a *App) openCopy(ctx context.Context, path, dir string) (repo.WorkingCopy, error) {
	full := expandHome(path, a.env.Home)
	if !filepath.IsAbs(full) {
		full = filepath.Join(dir, full)
	}
	full, err := filepath.Abs(full)
	if err != nil {
		return repo.WorkingCopy{}, err
	}
	if _, err := os.Stat(full); errors.Is(err, fs.ErrNotExist) {
		return repo.WorkingCopy{}, sentence("Invalid repo path: %s -> %s", filepath.Clean(path), full)
	}
	return repo.Open(ctx, full, os.Environ())
}

// slowDiff is after which time the user is told what makes a diff slow.
const slowDiff = 5 * time.Second

// writeDiff keeps the diff in a file without a name until it is uploaded.
func (a *App) writeDiff(ctx context.Context, src *sources, copied repo.WorkingCopy, spec *api.RunSpec) error {
	file, err := nameless()
	if err != nil {
		return err
	}
	src.file = file
	hint := time.AfterFunc(slowDiff, func() {
		a.Warn("Comparing the working copy with the repo takes long. Large files that are not pushed slow it down: push them, or add them to .gitignore. Ctrl-C ends it.")
	})
	defer hint.Stop()
	hash, size, err := copied.Diff(ctx, file)
	if err != nil {
		src.close()
		return err
	}
	if size > 0 {
		spec.RepoCodeHash = &hash
		src.diff = &client.Upload{Hash: hash, Size: size, Content: file}
	}
	return nil
}

// nameless makes a temporary file that is gone when it is closed.
func nameless() (*os.File, error) {
	file, err := os.CreateTemp("", "dstack-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make a temporary file: %w", err), file.Close())
	}
	return file, nil
}

func (a *App) finder(access repoAccess) repo.Finder {
	return repo.Finder{Home: a.env.Home, Env: os.Environ(), Identity: access.identity, Token: access.token}
}

func hostNames(ctx context.Context, f repo.Finder) func(string) string {
	return func(host string) string { return f.HostName(ctx, host) }
}

// ensureCreds makes the server know the repo, with credentials: those that it
// has are kept unless the user gives other ones.
func (a *App) ensureCreds(ctx context.Context, s *session, f repo.Finder, u repo.URL) error {
	head, err := s.GetRepo(ctx, u.ID())
	switch {
	case err != nil && !client.IsNotExist(err):
		return err
	case err == nil && head.RepoCreds != nil && f.Identity == "" && f.Token == "":
		return nil
	}
	return a.saveCreds(ctx, s, f, u)
}

func (a *App) saveCreds(ctx context.Context, s *session, f repo.Finder, u repo.URL) error {
	creds, err := f.Find(ctx, u)
	if err != nil {
		return err
	}
	info, err := json.Marshal(map[string]string{"repo_type": api.RepoRemote, "repo_name": u.Name()})
	if err != nil {
		return err
	}
	return s.InitRepo(ctx, api.SaveRepoCredsRequest{RepoID: u.ID(), RepoInfo: info, RepoCreds: &creds})
}

// addFiles packs and uploads each entry of `files`.
func (a *App) addFiles(ctx context.Context, s *session, verbose bool, base *config.RunBase, spec *api.RunSpec, dir string) error {
	base.Files = append(config.List[config.FileMapping](nil), base.Files...)
	excludes := a.gitExcludes(ctx)
	for i := range base.Files {
		f := &base.Files[i]
		full := expandHome(f.LocalPath, a.env.Home)
		if !filepath.IsAbs(full) {
			full = filepath.Join(dir, full)
		}
		full, err := filepath.Abs(full)
		if err != nil {
			return err
		}
		if _, err := os.Stat(full); errors.Is(err, fs.ErrNotExist) {
			return sentence("Path '%s' specified in `files` does not exist", full)
		}
		f.LocalPath = full
		uploaded, err := a.uploadFiles(ctx, s, verbose, full, excludes)
		if err != nil {
			return err
		}
		spec.FileArchives = append(spec.FileArchives, api.FileArchiveMapping{ID: uploaded.ID, Path: f.Path})
	}
	return nil
}

func (a *App) uploadFiles(ctx context.Context, s *session, verbose bool, path, excludes string) (api.FileArchive, error) {
	file, err := nameless()
	if err != nil {
		return api.FileArchive{}, err
	}
	defer file.Close() //nolint:errcheck // it has no name any more
	packed, err := archive.Pack(ctx, file, path, excludes)
	if err != nil {
		return api.FileArchive{}, err
	}
	if verbose {
		a.printSkipped(path, packed.Skipped)
	}
	info, err := file.Stat()
	if err != nil {
		return api.FileArchive{}, err
	}
	uploaded, err := s.UploadArchive(ctx, client.Upload{Hash: packed.Hash, Size: info.Size(), Content: file})
	if e, ok := errors.AsType[*client.APIError](err); ok && e.Status == 400 {
		return uploaded, sentence("%s\nThe archive is that of %s in `files`.", e.Msg, path)
	}
	return uploaded, err
}

// maxSkipped is how many left out paths are shown of one entry.
const maxSkipped = 20

func (a *App) printSkipped(path string, skipped []string) {
	if len(skipped) == 0 {
		return
	}
	a.Printf("Left out of %s in `files`:", path)
	for i, s := range skipped {
		if i == maxSkipped {
			a.Printf("  and %d more", len(skipped)-i)
			break
		}
		a.Print("  " + strings.TrimPrefix(s, path+string(filepath.Separator)))
	}
}

// gitExcludes is the user's own list of what Git ignores everywhere.
func (a *App) gitExcludes(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "config", "--global", "--type=path", "--get", "core.excludesFile").Output()
	if path := strings.TrimSpace(string(out)); err == nil && path != "" {
		return path
	}
	dir := a.env.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		dir = filepath.Join(a.env.Home, ".config")
	}
	return filepath.Join(dir, "git", "ignore")
}
