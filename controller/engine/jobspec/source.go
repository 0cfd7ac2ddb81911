package jobspec

import (
	"fmt"

	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/jobapi"
)

// Source is what the server has of the code and files that a job names.
type Source struct {
	// Creds are those of the run's user for the repo; nil if there are none.
	Creds *api.RemoteRepoCreds
	// HasCode says that the code of the job was uploaded for the repo.
	HasCode bool
	// Archives are the SHA-256 of the user's archives by id.
	Archives map[string]string
}

// Check says why a job cannot get what it names.
func (s Source) Check(job *api.JobSpec) error {
	if d := job.RepoData; d != nil && d.RepoType == api.RepoRemote && s.Creds == nil {
		return fmt.Errorf("The server does not know how to clone repo %s for this user: run dstack init in it, then run it again", d.RepoName) //nolint:staticcheck // a sentence for the user
	}
	if job.RepoCodeHash != nil && !s.HasCode {
		return fmt.Errorf("The changes to the repo (%.12s) are not on the server: apply the configuration again", *job.RepoCodeHash) //nolint:staticcheck // a sentence for the user
	}
	for _, f := range job.FileArchives {
		if s.Archives[f.ID] == "" {
			return fmt.Errorf("The files for %s (archive %s) are not on the server: apply the configuration again", f.Path, f.ID) //nolint:staticcheck // a sentence for the user
		}
	}
	return nil
}

// fill writes the repo and files of a job for its agent.
func (s Source) fill(spec *jobapi.Spec, job *api.JobSpec) {
	for _, f := range job.FileArchives {
		spec.Files = append(spec.Files, jobapi.File{Blob: s.Archives[f.ID], Path: f.Path})
	}
	repo := jobapi.Repo{
		Code: deref(job.RepoCodeHash), KeepExisting: job.RepoExistsAction == nil || *job.RepoExistsAction == config.RepoExistsSkip,
	}
	if d := job.RepoData; d != nil && d.RepoType == api.RepoRemote && s.Creds != nil {
		repo.CloneURL = s.Creds.CloneURL
		repo.PrivateKey, repo.OAuthToken = deref(s.Creds.PrivateKey), deref(s.Creds.OAuthToken)
		repo.Branch, repo.Hash = deref(d.RepoBranch), deref(d.RepoHash)
		repo.ConfigName, repo.ConfigEmail = deref(d.RepoConfigName), deref(d.RepoConfigEmail)
		repo.SingleBranch = job.SingleBranch != nil && *job.SingleBranch
	}
	if repo.CloneURL != "" || repo.Code != "" {
		spec.Repo = &repo
	}
}
