package api

import (
	"regexp"

	"dstack/protocol/internal/decode"
)

// GlobalRole is a user's role on the server in a request: "admin" or "user".
type GlobalRole string

// ProjectRole is a member's role in a request: "admin", "manager" or "user".
type ProjectRole string

// ListUsersRequest is the optional body of users/list.
type ListUsersRequest struct {
	ReturnTotalCount bool    `json:"return_total_count,omitempty"`
	NamePattern      *string `json:"name_pattern,omitempty"`
	PrevCreatedAt    *Time   `json:"prev_created_at,omitempty"`
	PrevID           *string `json:"prev_id,omitempty" as:"uuid"`
	// Limit is 0..2000, 2000 if absent.
	Limit     *int `json:"limit,omitempty" null:"no"`
	Ascending bool `json:"ascending,omitempty"`
}

// UsersInfoList is the answer of users/list with ReturnTotalCount.
type UsersInfoList struct {
	TotalCount int    `json:"total_count"`
	Users      []User `json:"users"`
}

// UsernameRequest names one user: get_user, refresh_token, refresh_ssh_key.
type UsernameRequest struct {
	Username string `json:"username"`
}

// SaveUserRequest is the body of users/create and users/update. An absent
// Active is true, an absent Email none, also in an update.
type SaveUserRequest struct {
	Username   string     `json:"username"`
	GlobalRole GlobalRole `json:"global_role"`
	Email      *string    `json:"email,omitempty"`
	Active     *bool      `json:"active,omitempty" null:"no"`
}

// DeleteUsersRequest names the users to delete.
type DeleteUsersRequest struct {
	Users []string `json:"users"`
}

// PublicKeyInfo is an SSH key that a user uploaded.
type PublicKeyInfo struct {
	ID          string `json:"id"`
	AddedAt     Time   `json:"added_at"`
	Name        string `json:"name"`
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
}

// AddPublicKeyRequest uploads an SSH key: a line in OpenSSH format.
type AddPublicKeyRequest struct {
	Key string `json:"key"`
	// Name is the comment of the key if absent.
	Name *string `json:"name,omitempty"`
}

// DeletePublicKeysRequest names the keys to delete.
type DeletePublicKeysRequest struct {
	IDs []string `json:"ids" as:"uuid"`
}

// OAuthProviderInfo is a way to log in; this server has none.
type OAuthProviderInfo struct {
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
}

// NextRedirectRequest is the body of auth/get_next_redirect.
type NextRedirectRequest struct {
	Code  string `json:"code"`
	State string `json:"state"`
}

// NextRedirect is its answer: where a login goes on, nil for here.
type NextRedirect struct {
	RedirectURL *string `json:"redirect_url"`
}

// ListProjectsRequest is the optional body of projects/list.
type ListProjectsRequest struct {
	// IncludeNotJoined is true if absent.
	IncludeNotJoined *bool   `json:"include_not_joined,omitempty" null:"no"`
	Username         *string `json:"username,omitempty"`
	ReturnTotalCount bool    `json:"return_total_count,omitempty"`
	NamePattern      *string `json:"name_pattern,omitempty"`
	PrevCreatedAt    *Time   `json:"prev_created_at,omitempty"`
	PrevID           *string `json:"prev_id,omitempty" as:"uuid"`
	// Limit is 0..2000, 2000 if absent.
	Limit     *int `json:"limit,omitempty" null:"no"`
	Ascending bool `json:"ascending,omitempty"`
}

// ProjectsInfoList is the answer of projects/list with ReturnTotalCount.
type ProjectsInfoList struct {
	TotalCount int       `json:"total_count"`
	Projects   []Project `json:"projects"`
}

// CreateProjectRequest is the body of projects/create.
type CreateProjectRequest struct {
	ProjectName   string  `json:"project_name"`
	IsPublic      bool    `json:"is_public,omitempty"`
	TemplatesRepo *string `json:"templates_repo,omitempty"`
}

// UpdateProjectRequest changes what is not nil.
type UpdateProjectRequest struct {
	IsPublic *bool `json:"is_public,omitempty"`
	// TemplatesRepo, empty or blank, changes nothing.
	TemplatesRepo      *string `json:"templates_repo,omitempty"`
	ResetTemplatesRepo bool    `json:"reset_templates_repo,omitempty"`
}

// DeleteProjectsRequest names the projects to delete.
type DeleteProjectsRequest struct {
	ProjectsNames []string `json:"projects_names"`
}

// MemberSetting is a user, by name or e-mail, with a role in a project.
type MemberSetting struct {
	Username    string      `json:"username"`
	ProjectRole ProjectRole `json:"project_role"`
}

// SetMembersRequest is the body of set_members and add_members.
type SetMembersRequest struct {
	Members []MemberSetting `json:"members"`
}

// RemoveMembersRequest names members by name or e-mail.
type RemoveMembersRequest struct {
	Usernames []string `json:"usernames"`
}

func (ListUsersRequest) optionalBody()    {}
func (ListProjectsRequest) optionalBody() {}

// maxAccounts is the largest page of users and projects.
const maxAccounts = 2000

func (r ListUsersRequest) check(v decode.Value) {
	limit(v, "limit", r.Limit, 0, maxAccounts)
	namePattern(v, r.NamePattern)
}

func (r ListProjectsRequest) check(v decode.Value) {
	limit(v, "limit", r.Limit, 0, maxAccounts)
	namePattern(v, r.NamePattern)
}

// nameText is what a part of a name may be.
var nameText = regexp.MustCompile(`^[a-zA-Z0-9-_]*$`)

func namePattern(v decode.Value, pattern *string) {
	if pattern != nil {
		at := v.At(v.Node().Lookup("name_pattern"), "name_pattern")
		decode.Matching(nameText)(at)
	}
}
