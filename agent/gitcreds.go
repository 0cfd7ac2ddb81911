package agent

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"dstack/protocol/jobapi"
)

// writeGitCreds leaves what opens the repo in the home of the job's user, so
// that the job can fetch and push (spec: job-execution.md 9.5), and gives the
// path of that file. What is there already stays. A home in the repo gets
// nothing: it would be committed.
func (h host) writeGitCreds(spec *jobapi.Spec, s *setup) (path string, err error) {
	home := s.user.Home
	if home == "/" || below(home, s.repoDir) || !spec.Isolated && !below(home, h.dir) {
		return "", nil // without isolation nothing is written outside our folder
	}
	name, text, err := gitCreds(spec.Repo)
	if err != nil || name == "" {
		return "", err
	}
	path = filepath.Join(home, name)
	if err := makeDir(home, s.command.Credential); err != nil {
		return "", err
	}
	if err := makePrivateDirs(home, filepath.Dir(path), s); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(text)
	return path, errors.Join(err, file.Close(), give(path, s.command.Credential))
}

// gitCreds is the file below home from which ssh or gh takes what opens the
// repo.
func gitCreds(r *jobapi.Repo) (name, text string, err error) {
	switch {
	case r.PrivateKey != "":
		return ".ssh/id_rsa", strings.TrimRight(r.PrivateKey, "\n") + "\n", nil
	case r.OAuthToken != "":
		u, err := url.Parse(r.CloneURL)
		if err != nil {
			return "", "", fmt.Errorf("read the URL of the repo: %w", err)
		}
		return ".config/gh/hosts.yml", fmt.Sprintf("%s:\n  oauth_token: %q\n", u.Hostname(), r.OAuthToken), nil
	}
	return "", "", nil
}

// below says whether a path is dir or in it.
func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// forgetGitCreds removes what writeGitCreds wrote.
func (j *job) forgetGitCreds() {
	if j.creds == "" {
		return
	}
	if err := os.Remove(j.creds); err != nil && !errors.Is(err, os.ErrNotExist) {
		j.logger.Warn().Err(err).Msg("git credentials not removed")
	}
}

// makePrivateDirs makes the folders from home down to dir for the job's user
// alone.
func makePrivateDirs(home, dir string, s *setup) error {
	if dir == home {
		return nil
	}
	if err := makePrivateDirs(home, filepath.Dir(dir), s); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return errors.Join(err, give(dir, s.command.Credential))
}
