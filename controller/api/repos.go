package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/google/uuid"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// msgNotFound is what 0.22.5 says of a resource that has no name of its own.
const msgNotFound = "Resource not found"

// initRepo makes a repo known, or replaces what is known of it, and keeps or
// removes the caller's credentials. Only a remote repo has credentials.
func (a *API) initRepo(ctx context.Context, c call, in api.SaveRepoCredsRequest) (nothing, error) {
	return nil, a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		old, err := tx.Repo(c.Project.ID, in.RepoID)
		if err != nil && !isNotFound(err) {
			return fmt.Errorf("find repo: %w", err)
		}
		repo := store.Repo{ID: uuid.NewString(), ProjectID: c.Project.ID, RepoID: in.RepoID, Info: in.RepoInfo}
		if err := tx.PutRepo(&repo); err != nil {
			return fmt.Errorf("save repo: %w", err)
		}
		// Clients repeat this before each run: what stays is no change.
		switch {
		case old.ID == "":
			err = a.record(tx, c, "Repo "+repo.RepoID+" added", projectTarget(&c.Project))
		case !bytes.Equal(old.Info, repo.Info):
			err = a.record(tx, c, "Repo "+repo.RepoID+" updated", projectTarget(&c.Project))
		}
		if err != nil {
			return err
		}
		if repoType(in.RepoInfo) != api.RepoRemote {
			in.RepoCreds = nil
		}
		return a.putRepoCreds(tx, c, &repo, in.RepoCreds)
	})
}

// putRepoCreds keeps the caller's credentials for a repo; nil removes them.
func (a *API) putRepoCreds(tx *store.Tx, c call, repo *store.Repo, creds *api.RemoteRepoCreds) error {
	old, err := tx.RepoCreds(repo.ID, c.User.ID)
	had := err == nil
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("find repo credentials: %w", err)
	}
	if !had && creds == nil || had && creds != nil && reflect.DeepEqual(old.Creds, *creds) {
		return nil
	}
	done := " removed"
	if creds != nil {
		done = " saved"
		err = tx.PutRepoCreds(&store.RepoCreds{RepoPK: repo.ID, UserID: c.User.ID, Creds: *creds})
	} else {
		err = tx.DeleteRepoCreds(repo.ID, c.User.ID)
	}
	if err != nil {
		return fmt.Errorf("save repo credentials: %w", err)
	}
	return a.record(tx, c, "Credentials of repo "+repo.RepoID+done, projectTarget(&c.Project), userTarget(&c.User))
}

func repoType(info []byte) string {
	var head struct {
		RepoType string `json:"repo_type"`
	}
	// What is stored was checked when it came.
	_ = json.Unmarshal(info, &head)
	return head.RepoType
}

func (a *API) getRepo(ctx context.Context, c call, in api.GetRepoRequest) (api.RepoHeadWithCreds, error) {
	var out api.RepoHeadWithCreds
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		repo, err := tx.Repo(c.Project.ID, in.RepoID)
		if isNotFound(err) {
			return notExists(msgNotFound)
		}
		if err != nil {
			return fmt.Errorf("find repo: %w", err)
		}
		out = api.RepoHeadWithCreds{RepoID: repo.RepoID, RepoInfo: repo.Info}
		if !in.IncludeCreds {
			return nil
		}
		creds, err := tx.RepoCreds(repo.ID, c.User.ID)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find repo credentials: %w", err)
		}
		out.RepoCreds = &creds.Creds
		return nil
	})
	return out, err
}

// repoHead is a repo as repos/list shows it: without credentials.
type repoHead struct {
	RepoID   string          `json:"repo_id"`
	RepoInfo json.RawMessage `json:"repo_info"`
}

func (a *API) listRepos(ctx context.Context, c call, _ noBody) ([]repoHead, error) {
	out := []repoHead{}
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Repos(c.Project.ID)
		if err != nil {
			return fmt.Errorf("list repos: %w", err)
		}
		for _, r := range rows {
			out = append(out, repoHead{RepoID: r.RepoID, RepoInfo: r.Info})
		}
		return nil
	})
	return out, err
}

// deleteReposRequest names the repos to delete.
type deleteReposRequest struct {
	ReposIDs []string `json:"repos_ids"`
}

func (a *API) deleteRepos(ctx context.Context, c call, in deleteReposRequest) (nothing, error) {
	return nil, a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		rows, err := tx.Repos(c.Project.ID)
		if err != nil {
			return fmt.Errorf("list repos: %w", err)
		}
		for _, r := range rows {
			if !slices.Contains(in.ReposIDs, r.RepoID) {
				continue
			}
			if err := a.record(tx, c, "Repo "+r.RepoID+" deleted", projectTarget(&c.Project)); err != nil {
				return err
			}
		}
		return tx.DeleteRepos(c.Project.ID, in.ReposIDs)
	})
}
