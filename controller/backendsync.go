package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"dstack/controller/backends"
	"dstack/controller/backends/aws"
	"dstack/controller/store"
	"dstack/protocol/config"
)

// drivers are those of this build.
func (s *Server) drivers() map[string]backends.Driver {
	return map[string]backends.Driver{aws.Type: aws.Driver{Prices: s.catalog}}
}

// backends are the clouds that this server can be configured for.
func (s *Server) backends() backends.Clouds {
	return backends.Clouds{Drivers: s.drivers(), NoDefaultCreds: s.cfg.Settings.NoDefaultCreds}
}

// syncBackends brings the backends of the projects of config.yml to what it
// says (spec: configuration.md 12). What fails is a warning: the server starts
// and the other backends are right.
func (s *Server) syncBackends(ctx context.Context, f serverFile) {
	for _, p := range f.parsed.Projects {
		listed := map[string]bool{}
		for _, b := range p.Backends {
			listed[b.Type] = true
			if err := s.syncBackend(ctx, p.Name, b); err != nil {
				s.log.Warn().Err(err).Str("project", p.Name).Str("backend", b.Type).Msg("Backend of config.yml was not configured")
			}
		}
		if err := s.dropBackends(ctx, p.Name, listed); err != nil {
			s.log.Warn().Err(err).Str("project", p.Name).Msg("Backends that config.yml does not list were not deleted")
		}
	}
}

func (s *Server) syncBackend(ctx context.Context, project string, b config.Backend) error {
	if !slices.Contains(s.backends().Types(), b.Type) {
		return errors.New("no build has this backend any more: remove it from config.yml")
	}
	spec, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	known, err := s.sameBackend(ctx, project, b.Type, spec)
	if err != nil || known {
		return err // what was checked once holds up no start
	}
	if err := s.backends().Validate(ctx, b); err != nil {
		return fmt.Errorf("check configuration: %w", err)
	}
	if err := s.keepsMachines(ctx, project, b); err != nil {
		return fmt.Errorf("check configuration: %w", err)
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		p, err := tx.ProjectByName(project)
		if err != nil {
			return fmt.Errorf("find project: %w", err)
		}
		types, err := tx.BackendTypes(p.ID)
		if err != nil {
			return fmt.Errorf("list backends: %w", err)
		}
		fresh := &store.Backend{ID: uuid.NewString(), ProjectID: p.ID, Type: b.Type, Spec: spec}
		if !slices.Contains(types, b.Type) {
			if err := tx.InsertBackend(fresh); err != nil {
				return err //nolint:wrapcheck // wrapped below
			}
			return s.recordBackend(tx, &p, b.Type, "created")
		}
		row, err := tx.Backend(p.ID, b.Type)
		if err != nil && !errors.Is(err, store.ErrWrongKey) {
			return fmt.Errorf("read backend: %w", err)
		}
		if err == nil && string(row.Spec) == string(spec) {
			return nil
		}
		if err := tx.DeleteBackend(p.ID, b.Type); err != nil {
			return fmt.Errorf("replace backend: %w", err)
		}
		if err := tx.InsertBackend(fresh); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		return s.recordBackend(tx, &p, b.Type, "updated")
	})
	if err != nil {
		return fmt.Errorf("store backend: %w", err)
	}
	return nil
}

// keepsMachines refuses a configuration with which machines would be lost.
func (s *Server) keepsMachines(ctx context.Context, project string, b config.Backend) error {
	var p store.Project
	err := s.store.Read(ctx, func(tx *store.Tx) (err error) {
		p, err = tx.ProjectByName(project)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("find project: %w", err)
	}
	return s.clouds.Keeps(ctx, p.ID, b)
}

// sameBackend says whether a project has the backend with this configuration.
func (s *Server) sameBackend(ctx context.Context, project, typ string, spec []byte) (same bool, err error) {
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		p, err := tx.ProjectByName(project)
		if err != nil {
			return fmt.Errorf("find project: %w", err)
		}
		row, err := tx.Backend(p.ID, typ)
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrWrongKey) {
			return nil
		}
		same = err == nil && bytes.Equal(row.Spec, spec)
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return false, fmt.Errorf("read backend: %w", err)
	}
	return same, nil
}

// dropBackends deletes the backends that are not listed. One that has
// something running stays: nobody could stop that any more.
func (s *Server) dropBackends(ctx context.Context, project string, listed map[string]bool) error {
	var kept []string
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		kept = nil
		p, err := tx.ProjectByName(project)
		if err != nil {
			return fmt.Errorf("find project: %w", err)
		}
		types, err := tx.BackendTypes(p.ID)
		if err != nil {
			return fmt.Errorf("list backends: %w", err)
		}
		for _, typ := range types {
			if listed[typ] {
				continue
			}
			use, err := tx.BackendUse(p.ID, typ)
			if err != nil {
				return fmt.Errorf("look for use of backend: %w", err)
			}
			if use != "" {
				kept = append(kept, typ+": "+use)
				continue
			}
			if err := tx.DeleteBackend(p.ID, typ); err != nil {
				return fmt.Errorf("delete backend: %w", err)
			}
			if err := s.recordBackend(tx, &p, typ, "deleted"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete backends: %w", err)
	}
	for _, text := range kept {
		s.log.Warn().Str("project", project).Msgf("config.yml does not list a backend that is in use, so it stays. Delete what it has and start again. %s", text)
	}
	return nil
}

// recordBackend stores the event of what config.yml made of a backend.
func (s *Server) recordBackend(tx *store.Tx, p *store.Project, typ, done string) error {
	err := tx.InsertEvents(store.Event{
		ID: uuid.NewString(), Message: "Backend " + typ + " " + done, RecordedAt: s.now(),
		Targets: []store.EventTarget{{Type: "project", ProjectID: &p.ID, ID: p.ID, Name: p.EventName()}},
	})
	if err != nil {
		return fmt.Errorf("record event: %w", err)
	}
	return nil
}
