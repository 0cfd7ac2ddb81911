package store

import "fmt"

var repos = newTable("repos", func(r *Repo, _ *codec) []column {
	return []column{
		col("id", &r.ID),
		col("project_id", &r.ProjectID),
		col("repo_id", &r.RepoID),
		col("info", rawText{&r.Info}),
	}
})

var repoCreds = newTable("repo_creds", func(r *RepoCreds, c *codec) []column {
	return []column{
		col("repo_pk", &r.RepoPK),
		col("user_id", &r.UserID),
		col("creds", sealed(&r.Creds, c)),
	}
})

// PutRepo adds a repo, or writes the info of the one that the project has
// under this RepoID; r.ID becomes the stored id.
func (tx *Tx) PutRepo(r *Repo) error {
	old, err := tx.Repo(r.ProjectID, r.RepoID)
	switch {
	case err == nil:
		r.ID = old.ID
		return repos.change(tx, r, ErrNotFound)
	case isNotFound(err):
		return repos.add(tx, r)
	}
	return err
}

// Repo finds a repo of a project by its RepoID.
func (tx *Tx) Repo(projectID, repoID string) (Repo, error) {
	return repos.one(tx, " WHERE project_id = $1 AND repo_id = $2", projectID, repoID)
}

// Repos lists the repos of a project by RepoID.
func (tx *Tx) Repos(projectID string) ([]Repo, error) {
	return repos.find(tx, " WHERE project_id = $1 ORDER BY repo_id", projectID)
}

// DeleteRepos deletes repos of a project with their credentials; unknown ids
// are ignored.
func (tx *Tx) DeleteRepos(projectID string, repoIDs []string) error {
	var w where
	w.add("project_id = ?", projectID)
	w.in("repo_id", nonNil(repoIDs))
	if _, err := tx.exec("DELETE FROM repos"+w.String(), w.args...); err != nil {
		return fmt.Errorf("delete repos: %w", err)
	}
	return nil
}

// DropRepos deletes all repos of a project with their credentials and code.
func (tx *Tx) DropRepos(projectID string) error {
	if _, err := tx.exec("DELETE FROM repos WHERE project_id = $1", projectID); err != nil {
		return fmt.Errorf("delete repos: %w", err)
	}
	return nil
}

// PutRepoCreds sets one user's credentials for a repo.
func (tx *Tx) PutRepoCreds(c *RepoCreds) error {
	if err := tx.DeleteRepoCreds(c.RepoPK, c.UserID); err != nil {
		return err
	}
	return repoCreds.add(tx, c)
}

// RepoCreds finds one user's credentials for a repo.
func (tx *Tx) RepoCreds(repoPK, userID string) (RepoCreds, error) {
	return repoCreds.one(tx, " WHERE repo_pk = $1 AND user_id = $2", repoPK, userID)
}

// DeleteRepoCreds removes one user's credentials, if there are any.
func (tx *Tx) DeleteRepoCreds(repoPK, userID string) error {
	if _, err := tx.exec("DELETE FROM repo_creds WHERE repo_pk = $1 AND user_id = $2", repoPK, userID); err != nil {
		return fmt.Errorf("delete repo credentials: %w", err)
	}
	return nil
}
