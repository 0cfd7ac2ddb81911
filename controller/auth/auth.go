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

	"dstack/controller/snapshot"
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
	// Revision changes with the rows: see [store.Store.Revision].
	Revision() uint64
}

// Authorizer checks requests. It remembers callers until the rows change.
type Authorizer struct {
	store   Reader
	callers *snapshot.Cache[credentials, Caller]
}

// credentials are what a caller is told by.
type credentials struct{ token, project string }

const (
	// callerSize is about how many bytes a remembered caller takes, and
	// callersLimit what all of them may.
	callerSize   = 8 << 10
	callersLimit = 4 << 20
)

// New returns an authorizer that looks users and projects up in a store.
func New(r Reader) *Authorizer {
	return &Authorizer{r, snapshot.New[credentials, Caller](callersLimit)}
}

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
	c, err := a.caller(ctx, credentials{token, r.Project})
	if err == nil && !c.Passes(r.Level) {
		err = ErrDenied
	}
	if err != nil {
		return Caller{}, fmt.Errorf("check access: %w", err)
	}
	return c, nil
}

// caller finds who has the credentials.
func (a *Authorizer) caller(ctx context.Context, by credentials) (Caller, error) {
	revision := a.store.Revision()
	if c, ok := a.callers.Get(revision, by); ok {
		return c, nil
	}
	var c Caller
	err := a.store.Read(ctx, func(tx *store.Tx) error {
		var err error
		if c.User, err = userOf(tx, by.token); err != nil || by.project == "" {
			return err
		}
		return projectOf(tx, by.project, &c)
	})
	if err != nil {
		return Caller{}, err //nolint:wrapcheck // says what it was doing
	}
	a.callers.Put(revision, by, c, callerSize)
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

// MayEnter says whether the caller may get into what runs in the project for
// its owner: administrators and the owner may.
func (c *Caller) MayEnter(ownerID string) bool {
	return c.Passes(ProjectAdmin) || c.User.ID == ownerID
}
