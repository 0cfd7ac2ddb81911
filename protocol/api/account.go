package api

import (
	"encoding/json"

	"dstack/protocol/config"
)

// User is a user as others see it. GlobalRole is "admin" or "user".
type User struct {
	ID           string          `json:"id"`
	Username     string          `json:"username"`
	CreatedAt    *Time           `json:"created_at"`
	GlobalRole   string          `json:"global_role"`
	Email        *string         `json:"email"`
	Active       bool            `json:"active"`
	Permissions  UserPermissions `json:"permissions"`
	SSHPublicKey *string         `json:"ssh_public_key"`
}

// UserPermissions is what a user may do server-wide.
type UserPermissions struct {
	CanCreateProjects bool `json:"can_create_projects"`
}

// UserWithCreds is a user with its own secrets.
type UserWithCreds struct {
	User
	Creds         UserTokenCreds `json:"creds"`
	SSHPrivateKey *string        `json:"ssh_private_key"`
}

// UserTokenCreds is a user's token.
type UserTokenCreds struct {
	Token string `json:"token"`
}

// Project is a project with its backends and members.
type Project struct {
	ProjectID     string                   `json:"project_id"`
	ProjectName   string                   `json:"project_name"`
	Owner         User                     `json:"owner"`
	CreatedAt     *Time                    `json:"created_at"`
	Backends      config.List[BackendInfo] `json:"backends"`
	Members       config.List[Member]      `json:"members"`
	IsPublic      bool                     `json:"is_public"`
	TemplatesRepo *string                  `json:"templates_repo"`
}

// BackendInfo is a configured backend without credentials.
type BackendInfo struct {
	Name   string          `json:"name"`
	Config json.RawMessage `json:"config"`
}

// Member is a user's role in a project: "admin", "manager" or "user".
type Member struct {
	User        User              `json:"user"`
	ProjectRole string            `json:"project_role"`
	Permissions MemberPermissions `json:"permissions"`
}

// MemberPermissions is what a member may do in its project.
type MemberPermissions struct {
	CanManageSSHFleets bool `json:"can_manage_ssh_fleets"`
	CanManageSecrets   bool `json:"can_manage_secrets"`
}
