package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"dstack/controller/store"
)

// Names of what the first start creates.
const (
	AdminName   = "admin"
	MainProject = "main"
)

// Writer reads and writes the store.
type Writer interface {
	Reader
	Write(ctx context.Context, fn func(*store.Tx) error) error
}

// NewUser makes a user with a key pair, ready to be inserted. An empty token
// becomes a new UUID.
func NewUser(name, globalRole, token string, now time.Time) (store.User, error) {
	public, private, err := NewKeyPair(name)
	if err != nil {
		return store.User{}, err
	}
	if token == "" {
		token = uuid.NewString()
	}
	return store.User{
		ID: uuid.NewString(), Name: name, GlobalRole: globalRole, Active: true, Token: token,
		PublicKey: public, PrivateKey: private, CreatedAt: now,
	}, nil
}

// NewProject makes a project with a key pair, ready for [AddProject].
func NewProject(name, ownerID string, now time.Time) (store.Project, error) {
	public, private, err := NewKeyPair(name + "@dstack")
	if err != nil {
		return store.Project{}, err
	}
	return store.Project{
		ID: uuid.NewString(), Name: name, OwnerID: ownerID,
		PublicKey: public, PrivateKey: private, CreatedAt: now,
	}, nil
}

// AddProject inserts a project, makes its owner its admin and lets it import
// all global exports.
func AddProject(tx *store.Tx, p *store.Project) error {
	if err := tx.InsertProject(p); err != nil {
		return fmt.Errorf("create project %s: %w", p.Name, err)
	}
	if err := tx.SetMembers(p.ID, []store.Member{{UserID: p.OwnerID, Role: RoleAdmin}}); err != nil {
		return fmt.Errorf("create project %s: %w", p.Name, err)
	}
	global, err := tx.GlobalExports()
	if err != nil {
		return fmt.Errorf("create project %s: %w", p.Name, err)
	}
	for _, e := range global {
		err := tx.InsertImport(&store.Import{ID: uuid.NewString(), ExportID: e.ID, ProjectID: p.ID, CreatedAt: p.CreatedAt})
		if err != nil {
			return fmt.Errorf("create project %s: %w", p.Name, err)
		}
	}
	return nil
}

// Seeded is what a start finds or makes.
type Seeded struct {
	Admin store.User
	// Created says that the admin is new: its token was not known before.
	Created bool

	at     time.Time
	events int
}

// Seed creates the user admin and the projects with these names, owned by
// admin, as far as they are missing. token is the admin's, used only when the
// admin is created now; empty makes one up.
func Seed(ctx context.Context, w Writer, token string, now time.Time, projects ...string) (Seeded, error) {
	s := Seeded{at: now}
	var missing []string
	err := w.Read(ctx, func(tx *store.Tx) error {
		s.Created, missing = false, nil
		var err error
		if s.Admin, err = tx.UserByName(AdminName); errors.Is(err, store.ErrNotFound) {
			s.Created, err = true, nil
		}
		for _, name := range projects {
			_, perr := tx.ProjectByName(name)
			if errors.Is(perr, store.ErrNotFound) {
				missing = append(missing, name)
				continue
			}
			err = errors.Join(err, perr)
		}
		return err
	})
	if err != nil {
		return Seeded{}, fmt.Errorf("look for the admin: %w", err)
	}
	if !s.Created && len(missing) == 0 {
		return s, nil
	}
	rows, err := makeProjects(&s, token, now, missing)
	if err != nil {
		return Seeded{}, err
	}
	return s, insertSeed(ctx, w, &s, rows)
}

// makeProjects makes all keys at the same time: they take a while.
func makeProjects(s *Seeded, token string, now time.Time, names []string) ([]store.Project, error) {
	rows := make([]store.Project, len(names))
	var g errgroup.Group
	if s.Created {
		g.Go(func() error {
			var err error
			s.Admin, err = NewUser(AdminName, RoleAdmin, token, now)
			return err
		})
	}
	for i, name := range names {
		g.Go(func() error {
			var err error
			rows[i], err = NewProject(name, "", now)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	return rows, nil
}

// seedEvent is an event of the first start, which 0.22.5 ascribes to admin.
// What was made later has a later time.
func seedEvent(s *Seeded, message string, target store.EventTarget) store.Event {
	s.events++
	return store.Event{
		ID: uuid.NewString(), Message: message, RecordedAt: s.at.Add(time.Duration(s.events) * time.Microsecond), ActorID: &s.Admin.ID,
		Targets: []store.EventTarget{target},
	}
}

func insertSeed(ctx context.Context, w Writer, s *Seeded, rows []store.Project) error {
	err := w.Write(ctx, func(tx *store.Tx) error {
		s.events = 0 // a write may be tried again
		if s.Created {
			if err := tx.InsertUser(&s.Admin); err != nil {
				return fmt.Errorf("create user %s: %w", AdminName, err)
			}
			if err := tx.InsertEvents(seedEvent(s, "User created", store.EventTarget{Type: "user", ID: s.Admin.ID, Name: AdminName})); err != nil {
				return fmt.Errorf("record user %s: %w", AdminName, err)
			}
		}
		for _, p := range rows {
			p.OwnerID = s.Admin.ID
			if err := AddProject(tx, &p); err != nil {
				return err
			}
			target := store.EventTarget{Type: "project", ProjectID: &p.ID, ID: p.ID, Name: p.Name}
			if err := tx.InsertEvents(seedEvent(s, "Project created", target)); err != nil {
				return fmt.Errorf("record project %s: %w", p.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the admin and the projects: %w", err)
	}
	return nil
}
