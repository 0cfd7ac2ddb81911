// Package auth tells who calls and decides, in one place, what the caller may
// do: tokens, roles and the level that each route needs (spec: rest-api.md 2
// and 3).
package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"dstack/controller/store"
)

// Outcomes of a check other than success, in the order in which they are
// looked for.
var (
	// ErrNotAuthenticated means that the request has no bearer token: 401.
	ErrNotAuthenticated = errors.New("not authenticated")
	// ErrInvalidToken means that no active user has the token: 403.
	ErrInvalidToken = errors.New("invalid token")
	// ErrNoProject means that the project does not exist: 404.
	ErrNoProject = errors.New("project not found")
	// ErrDenied means that the caller's role is too low: 403.
	ErrDenied = errors.New("access denied")
)

// Roles of a user on the server and in a project.
const (
	RoleAdmin   = "admin"
	RoleManager = "manager"
	RoleUser    = "user"
)

// Caller is who calls: with the user, and for a route of a project with that
// project and the user's role in it.
type Caller struct {
	User store.User
	// Project is empty for routes outside of projects.
	Project store.Project
	// Role is the user's own role in the project, empty if not a member: a
	// global admin passes every check without one.
	Role string
}

// Reader reads the store.
type Reader interface {
	Read(ctx context.Context, fn func(*store.Tx) error) error
}

// Authorizer checks requests.
type Authorizer struct{ store Reader }

// New returns an authorizer that looks users and projects up in a store.
func New(r Reader) *Authorizer { return &Authorizer{r} }

// Request is what a check needs to know of a request.
type Request struct {
	// Level is what the route needs; see [LevelOf].
	Level Level
	// Authorization is the header of this name.
	Authorization string
	// Project is the name in the path, in any case; empty outside of projects.
	Project string
}

// Check tells who calls and whether they may. It fails with one of the
// errors above, or with an error of the store.
func (a *Authorizer) Check(ctx context.Context, r Request) (Caller, error) {
	var c Caller
	if r.Level == Open || r.Level == Elsewhere {
		return c, nil
	}
	token, ok := bearer(r.Authorization)
	if !ok {
		return c, ErrNotAuthenticated
	}
	err := a.store.Read(ctx, func(tx *store.Tx) error {
		var err error
		if c.User, err = userOf(tx, token); err != nil {
			return err
		}
		if r.Project != "" {
			if err := projectOf(tx, r.Project, &c); err != nil {
				return err
			}
		}
		if !c.Passes(r.Level) {
			return ErrDenied
		}
		return nil
	})
	if err != nil {
		return Caller{}, fmt.Errorf("check access: %w", err)
	}
	return c, nil
}

// bearer takes the token out of an Authorization header.
func bearer(header string) (string, bool) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "bearer") && token != ""
}

func userOf(tx *store.Tx, token string) (store.User, error) {
	u, err := tx.UserByTokenHash(store.TokenHash(token))
	if errors.Is(err, store.ErrNotFound) {
		return store.User{}, ErrInvalidToken
	}
	if err != nil {
		return store.User{}, fmt.Errorf("find user: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(u.Token), []byte(token)) != 1 || !u.Active {
		return store.User{}, ErrInvalidToken
	}
	return u, nil
}

func projectOf(tx *store.Tx, name string, c *Caller) error {
	var err error
	c.Project, err = tx.ProjectByName(name)
	if errors.Is(err, store.ErrNotFound) {
		return ErrNoProject
	}
	if err != nil {
		return fmt.Errorf("find project: %w", err)
	}
	m, err := tx.Member(c.Project.ID, c.User.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find member: %w", err)
	}
	c.Role = m.Role
	return nil
}

// Passes says whether the caller reaches the level.
func (c *Caller) Passes(l Level) bool {
	if c.User.GlobalRole == RoleAdmin {
		return true
	}
	manager := c.Role == RoleAdmin || c.Role == RoleManager
	switch l {
	case Open, Elsewhere, Authenticated, Importer:
		return true
	case Member:
		return c.Role != ""
	case MemberOrPublic:
		return c.Role != "" || c.Project.IsPublic
	case ManagerOrPublic:
		return manager || c.Project.IsPublic
	case Manager:
		return manager
	case ProjectAdmin:
		return c.Role == RoleAdmin
	case GlobalAdmin:
		return false
	}
	return false
}
