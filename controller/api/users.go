package api

import (
	"context"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/version"
)

func (a *API) getInfo(context.Context, call, noBody) (api.ServerInfo, error) {
	return api.ServerInfo{ServerVersion: version.Compatible}, nil
}

// getMyUser returns the caller with its own secrets, the only ones that are
// ever sent.
func (a *API) getMyUser(_ context.Context, c call, _ noBody) (api.UserWithCreds, error) {
	return api.UserWithCreds{
		User:          a.userView(&c.User),
		Creds:         api.UserTokenCreds{Token: c.User.Token},
		SSHPrivateKey: none(c.User.PrivateKey),
	}, nil
}

func (a *API) userView(u *store.User) api.User {
	return api.User{
		ID: u.ID, Username: u.Name, CreatedAt: new(api.At(u.CreatedAt)),
		GlobalRole: u.GlobalRole, Email: u.Email, Active: u.Active,
		Permissions:  api.UserPermissions{CanCreateProjects: a.deps.Policy.CanCreateProjects(u)},
		SSHPublicKey: none(u.PublicKey),
	}
}
