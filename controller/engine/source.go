package engine

import (
	"errors"
	"fmt"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// loadSource finds what the server has of the code and files of a job.
func (v *jobView) loadSource(tx *store.Tx) error {
	job := &v.job.Spec
	if ids := archiveIDs(job); len(ids) > 0 {
		rows, err := tx.FileArchives(v.run.UserID, ids)
		if err != nil {
			return fmt.Errorf("read archives: %w", err)
		}
		v.source.Archives = make(map[string]string, len(rows))
		for _, r := range rows {
			v.source.Archives[r.ID] = r.Hash
		}
	}
	if id := v.run.Spec.RepoID; id != nil && job.RepoData != nil && job.RepoData.RepoType != api.RepoVirtual || job.RepoCodeHash != nil {
		return v.loadRepo(tx)
	}
	return nil
}

func archiveIDs(job *api.JobSpec) []string {
	var ids []string
	for _, f := range job.FileArchives {
		ids = append(ids, f.ID)
	}
	return ids
}

// loadRepo leaves out what is not there any more: the job is then told.
func (v *jobView) loadRepo(tx *store.Tx) error {
	repo, err := tx.Repo(v.run.ProjectID, *v.run.Spec.RepoID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read repo: %w", err)
	}
	creds, err := tx.RepoCreds(repo.ID, v.run.UserID)
	if err == nil {
		v.source.Creds = &creds.Creds
	} else if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read repo credentials: %w", err)
	}
	if hash := v.job.Spec.RepoCodeHash; hash != nil {
		_, err := tx.RepoCode(repo.ID, *hash)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read code: %w", err)
		}
		v.source.HasCode = err == nil
	}
	return nil
}

// lacksSource ends a job whose code or files are not there, before it takes
// a place.
func (v *jobView) lacksSource(d *decision) bool {
	err := v.source.Check(&v.job.Spec)
	if err != nil {
		v.end(d, api.ReasonExecutorError, err.Error())
	}
	return err != nil
}
