package api

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/version"
)

// maxUsers is the largest page of users/list.
const maxUsers = 2000

// usernameText is what a name of a user must look like.
var usernameText = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,60}$`)

func (a *API) getInfo(context.Context, call, noBody) (api.ServerInfo, error) {
	return api.ServerInfo{ServerVersion: version.Compatible}, nil
}

// listUsers answers with a list, or with UsersInfoList.
func (a *API) listUsers(ctx context.Context, c call, in api.ListUsersRequest) (any, error) {
	filter := store.UserFilter{NamePattern: deref(in.NamePattern, "")}
	if !a.deps.Policy.IsAdmin(&c.User) {
		filter.ID = c.User.ID
	}
	list := []api.User{}
	total := 0
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		var err error
		if in.ReturnTotalCount {
			if total, err = tx.CountUsers(filter); err != nil {
				return fmt.Errorf("count users: %w", err)
			}
		}
		page, ok := pageOf(in.PrevCreatedAt, in.PrevID, in.Limit, maxUsers, in.Ascending)
		if !ok {
			return nil
		}
		filter.Page = page
		rows, err := tx.Users(filter)
		if err != nil {
			return fmt.Errorf("list users: %w", err)
		}
		for i := range rows {
			list = append(list, a.userView(&rows[i]))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if in.ReturnTotalCount {
		return api.UsersInfoList{TotalCount: total, Users: list}, nil
	}
	return list, nil
}

// getMyUser returns the caller with its own secrets. A caller without a key
// pair gets one: attaching needs it.
func (a *API) getMyUser(ctx context.Context, c call, _ noBody) (api.UserWithCreds, error) {
	if c.User.PublicKey != "" {
		return a.credsView(&c.User), nil
	}
	return a.newSSHKey(ctx, c, c.User.Name)
}

// needKey makes a key pair for a caller without one whose run brings no key
// (spec: rest-api.md 7.5).
func (a *API) needKey(ctx context.Context, c *call, spec *api.RunSpec) error {
	if spec.SSHKeyPub != nil || c.User.PublicKey != "" {
		return nil
	}
	with, err := a.newSSHKey(ctx, *c, c.User.Name)
	if err != nil {
		return err
	}
	c.User.PublicKey = deref(with.SSHPublicKey, "")
	return nil
}

// getUser shows the secrets of others to a global admin only; to everybody
// else others do not exist.
func (a *API) getUser(ctx context.Context, c call, in api.UsernameRequest) (api.UserWithCreds, error) {
	if in.Username != c.User.Name && !a.deps.Policy.IsAdmin(&c.User) {
		return api.UserWithCreds{}, notExists(msgNotFound)
	}
	var out api.UserWithCreds
	err := a.deps.Store.Read(ctx, func(tx *store.Tx) error {
		u, err := findUser(tx, in.Username)
		if err == nil {
			out = a.credsView(&u)
		}
		return err
	})
	return out, err
}

func (a *API) createUser(ctx context.Context, c call, in api.SaveUserRequest) (api.User, error) {
	if !usernameText.MatchString(in.Username) {
		return api.User{}, refuse("Username should match regex '%s'", usernameText)
	}
	u, err := auth.NewUser(in.Username, string(in.GlobalRole), "", a.deps.Now())
	if err != nil {
		return api.User{}, fmt.Errorf("create user: %w", err)
	}
	u.Email, u.Active = in.Email, deref(in.Active, true)
	err = a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.InsertUser(&u); isTaken(err) {
			return exists()
		} else if err != nil {
			return fmt.Errorf("create user: %w", err)
		}
		return a.record(tx, c, "User created", userTarget(&u))
	})
	return a.userView(&u), err
}

// updateUser replaces role, e-mail and activity, also those that the request
// leaves out.
func (a *API) updateUser(ctx context.Context, c call, in api.SaveUserRequest) (api.User, error) {
	var out api.User
	err := a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		u, err := findUser(tx, in.Username)
		if err != nil {
			return err
		}
		active := deref(in.Active, true)
		var changed []string
		if u.GlobalRole != string(in.GlobalRole) {
			changed = append(changed, "global_role=GlobalRole."+strings.ToUpper(string(in.GlobalRole)))
		}
		if deref(u.Email, "") != deref(in.Email, "") || (u.Email == nil) != (in.Email == nil) {
			changed = append(changed, "email")
		}
		if u.Active != active {
			changed = append(changed, "active="+pythonBool(active))
		}
		u.GlobalRole, u.Email, u.Active = string(in.GlobalRole), in.Email, active
		if err := tx.UpdateUser(&u); err != nil {
			return fmt.Errorf("update user: %w", err)
		}
		out = a.userView(&u)
		return a.record(tx, c, "User updated. Updated fields: "+fieldList(changed), userTarget(&u))
	})
	return out, err
}

// mayManage says whether the caller may change a user's secrets. It is asked
// before whether there is such a user.
func (a *API) mayManage(c call, username string) error {
	if username != c.User.Name && !a.deps.Policy.IsAdmin(&c.User) {
		return forbidden(msgAccessDenied)
	}
	return nil
}

func (a *API) refreshToken(ctx context.Context, c call, in api.UsernameRequest) (api.UserWithCreds, error) {
	if err := a.mayManage(c, in.Username); err != nil {
		return api.UserWithCreds{}, err
	}
	token := uuid.NewString()
	return a.changeUser(ctx, c, in.Username, "User token refreshed", func(u *store.User) { u.Token = token })
}

func (a *API) refreshSSHKey(ctx context.Context, c call, in api.UsernameRequest) (api.UserWithCreds, error) {
	if err := a.mayManage(c, in.Username); err != nil {
		return api.UserWithCreds{}, err
	}
	return a.newSSHKey(ctx, c, in.Username)
}

func (a *API) newSSHKey(ctx context.Context, c call, username string) (api.UserWithCreds, error) {
	public, private, err := auth.NewKeyPair(username)
	if err != nil {
		return api.UserWithCreds{}, fmt.Errorf("refresh SSH key: %w", err)
	}
	return a.changeUser(ctx, c, username, "User SSH key refreshed", func(u *store.User) {
		u.PublicKey, u.PrivateKey = public, private
	})
}

func (a *API) changeUser(ctx context.Context, c call, username, message string, change func(*store.User)) (api.UserWithCreds, error) {
	var out api.UserWithCreds
	err := a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		u, err := findUser(tx, username)
		if err != nil {
			return err
		}
		change(&u)
		if err := tx.UpdateUser(&u); err != nil {
			return fmt.Errorf("update user: %w", err)
		}
		out = a.credsView(&u)
		return a.record(tx, c, message, userTarget(&u))
	})
	return out, err
}

// deleteUsers deletes all of the users or none. What they own stays.
func (a *API) deleteUsers(ctx context.Context, c call, in api.DeleteUsersRequest) (nothing, error) {
	for _, name := range in.Users {
		if name == auth.AdminName {
			return nil, refuse("User '%s' cannot be deleted", auth.AdminName)
		}
	}
	if len(distinct(in.Users)) != len(in.Users) {
		return nil, refuse("Failed to delete non-existent users")
	}
	return nil, a.deps.Store.Write(ctx, func(tx *store.Tx) error {
		for _, name := range in.Users {
			u, err := tx.UserByExactName(name)
			if isNotFound(err) {
				return refuse("Failed to delete non-existent users")
			}
			if err != nil {
				return fmt.Errorf("find user: %w", err)
			}
			u.OriginalName, u.Name, u.Deleted, u.Active = new(u.Name), deletedName(a.deps.Now()), true, false
			if err := tx.UpdateUser(&u); err != nil {
				return fmt.Errorf("delete user: %w", err)
			}
			if err := tx.LeaveProjects(u.ID); err != nil {
				return fmt.Errorf("delete user: %w", err)
			}
			if err := a.record(tx, c, "User deleted", userTarget(&u)); err != nil {
				return err
			}
		}
		return nil
	})
}

// findUser finds a user by its exact name.
func findUser(tx *store.Tx, name string) (store.User, error) {
	u, err := tx.UserByExactName(name)
	if isNotFound(err) {
		return u, notExists(msgNotFound)
	}
	if err != nil {
		return u, fmt.Errorf("find user: %w", err)
	}
	return u, nil
}

func (a *API) credsView(u *store.User) api.UserWithCreds {
	return api.UserWithCreds{
		User:          a.userView(u),
		Creds:         api.UserTokenCreds{Token: u.Token},
		SSHPrivateKey: none(u.PrivateKey),
	}
}

func (a *API) userView(u *store.User) api.User {
	return api.User{
		ID: u.ID, Username: u.Name, CreatedAt: new(api.At(u.CreatedAt)),
		GlobalRole: u.GlobalRole, Email: u.Email, Active: u.Active,
		Permissions:  api.UserPermissions{CanCreateProjects: a.deps.Policy.CanCreateProjects(u)},
		SSHPublicKey: none(u.PublicKey),
	}
}

// fieldList is how events name what changed.
func fieldList(changed []string) string {
	if len(changed) == 0 {
		return "<none>"
	}
	return strings.Join(changed, ", ")
}
