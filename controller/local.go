package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"dstack/controller/api"
	"dstack/controller/auth"
	"dstack/controller/engine"
	"dstack/controller/store"
	wire "dstack/protocol/api"
	"dstack/protocol/config"
)

// localAddress is how this machine is called as a host.
const localAddress = "127.0.0.1"

// localDir is the home of the shim of this machine.
func (s *Server) localDir() string {
	dir, err := filepath.Abs(filepath.Join(s.cfg.Settings.Dir, "local"))
	if err != nil {
		return filepath.Join(s.cfg.Settings.Dir, "local")
	}
	return dir
}

// errSharedNeedsRoot refuses to run other users' jobs as the server's own
// user, who can read its database and its encryption key.
var errSharedNeedsRoot = errors.New("--local-shared needs a server that runs as root: otherwise the jobs of other users " +
	"could read the server's database. Start it as root, or use --local, which only administrators may use")

// offerLocal makes fleet local in project main, if the server was asked to.
func (s *Server) offerLocal(ctx context.Context) error {
	if s.cfg.Settings.LocalShared && os.Geteuid() != 0 {
		return errSharedNeedsRoot
	}
	var (
		project store.Project
		fleet   *store.Fleet
	)
	err := s.store.Read(ctx, func(tx *store.Tx) error {
		var err error
		if project, err = tx.ProjectByName(auth.MainProject); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		f, err := tx.FleetByName(project.ID, api.LocalFleet)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		fleet = &f
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("look for fleet %s: %w", api.LocalFleet, err)
	}
	wanted := s.cfg.Settings.Local || s.cfg.Settings.LocalShared
	switch {
	case fleet == nil && wanted:
		return s.createLocal(ctx, project)
	case fleet != nil && fleet.Status != wire.FleetActive && wanted:
		s.log.Warn().Msgf("Fleet %s is being deleted: start the server again when it is gone", api.LocalFleet)
	case fleet != nil && !wanted:
		s.log.Info().Msgf("This machine is still offered as fleet %s, from an earlier start with --local: "+
			"`dstack fleet delete %s` ends that", api.LocalFleet, api.LocalFleet)
	}
	return nil
}

func (s *Server) createLocal(ctx context.Context, project store.Project) error {
	name := api.LocalFleet
	spec := wire.FleetSpec{
		Configuration: config.Fleet{
			Type: config.TypeFleet, Name: &name, Blocks: config.Blocks{Count: 1}, Env: config.Env{},
			SSHConfig: &config.SSHParams{User: currentUser(), Hosts: []config.SSHHost{{Hostname: localAddress, Plain: true}}},
		},
		Profile: config.Profile{Name: "default"},
	}
	_, err := s.engine.CreateFleet(ctx, engine.NewFleet{
		ProjectID: project.ID, Spec: spec,
		Hosts: []engine.NewHost{{Hostname: localAddress, Access: store.Access{Local: true}, Blocks: config.Blocks{Count: 1}}},
	})
	if err != nil {
		return fmt.Errorf("offer this machine as fleet %s: %w", api.LocalFleet, err)
	}
	s.log.Info().Msgf("This machine is offered as fleet %s in project %s", api.LocalFleet, project.Name)
	return nil
}

// currentUser is only shown; nil if it has no name.
func currentUser() *string {
	u, err := user.Current()
	if err != nil {
		return nil
	}
	return &u.Username
}
