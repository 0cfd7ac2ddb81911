package api

import (
	"encoding/json"
	"fmt"
)

// Values of repo_type.
const (
	RepoRemote  = "remote"
	RepoLocal   = "local"
	RepoVirtual = "virtual"
)

// remoteRepoData, localRepoData and virtualRepoData are the forms of
// RepoData on the wire.
type remoteRepoData struct {
	RepoType        string  `json:"repo_type"`
	RepoName        string  `json:"repo_name"`
	RepoBranch      *string `json:"repo_branch"`
	RepoHash        *string `json:"repo_hash"`
	RepoConfigName  *string `json:"repo_config_name"`
	RepoConfigEmail *string `json:"repo_config_email"`
}

type localRepoData struct {
	RepoType string `json:"repo_type"`
	RepoDir  string `json:"repo_dir"`
}

type virtualRepoData struct {
	RepoType string `json:"repo_type"`
}

// MarshalJSON writes the fields of the repo's type only.
func (d RepoData) MarshalJSON() ([]byte, error) {
	switch d.RepoType {
	case RepoRemote:
		return json.Marshal(remoteRepoData{d.RepoType, d.RepoName, d.RepoBranch, d.RepoHash, d.RepoConfigName, d.RepoConfigEmail})
	case RepoLocal:
		return json.Marshal(localRepoData{d.RepoType, d.RepoDir})
	}
	return json.Marshal(virtualRepoData{RepoVirtual})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *RepoData) UnmarshalJSON(b []byte) error {
	var w struct {
		remoteRepoData
		RepoDir string `json:"repo_dir"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read repo data: %w", err)
	}
	*d = RepoData{w.RepoType, w.RepoName, w.RepoBranch, w.RepoHash, w.RepoConfigName, w.RepoConfigEmail, w.RepoDir}
	return nil
}
