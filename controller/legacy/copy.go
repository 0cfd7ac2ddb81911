package legacy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// batchSize is how many rows go into one transaction: what is made is used only
// when it is whole, so it need not be made in one.
const batchSize = 500

// target collects rows and writes them to a new database.
type target struct {
	name    string // what errors call the old database
	store   *store.Store
	report  *Report
	pending []func(*store.Tx) error
}

// add collects a row of a table; row is how errors call it.
func (t *target) add(ctx context.Context, table, row string, insert func(*store.Tx) error) error {
	t.report.Rows[table]++
	t.pending = append(t.pending, func(tx *store.Tx) error { return t.rowFault(table, row, insert(tx)) })
	if len(t.pending) < batchSize {
		return nil
	}
	return t.flush(ctx)
}

func (t *target) flush(ctx context.Context) error {
	list := t.pending
	t.pending = nil
	err := t.store.Write(ctx, func(tx *store.Tx) error {
		for _, insert := range list {
			if err := insert(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the new database: %w", err)
	}
	return nil
}

// rowFault makes a sentence of why a row could not be written.
func (t *target) rowFault(table, row string, err error) error {
	if _, said := errors.AsType[*store.Fault](err); err == nil || said {
		return err
	}
	switch {
	case errors.Is(err, store.ErrExists):
		err = errors.New("another row has the same name")
	case strings.Contains(err.Error(), "FOREIGN KEY"):
		err = errors.New("it refers to a row that is gone")
	}
	return &store.Fault{
		Kind: ErrRow, Path: t.name, Err: fmt.Errorf("row %s of table %s: %w", row, table, err),
		Remedy: "Rename or delete one of them with dstack 0.22.5, or delete that row, stop that server, then start this one; nothing was changed.",
	}
}

func (t *target) leaveOutf(format string, args ...any) {
	t.report.LeftOut = append(t.report.LeftOut, fmt.Sprintf(format, args...))
}

// copyTo makes our database at path.
func (s *source) copyTo(ctx context.Context, path string, o Options, report *Report) (err error) {
	made, err := store.Open(ctx, store.Options{Path: path, Sealer: o.Sealer, NoEvents: o.NoEvents})
	if err != nil {
		return fmt.Errorf("make the new database: %w", err)
	}
	defer func() { err = errors.Join(err, made.Close()) }()
	t := &target{name: s.name, store: made, report: report}
	w := &world{source: s, target: t, now: o.Now, projects: map[string]string{}, known: newKnown(), orphans: map[string]int{}, fleets: map[string]*store.Fleet{}, instances: map[string]bool{}, runs: map[string]bool{}}
	for _, step := range []func(context.Context) error{
		w.users, w.projectsOf, w.members, w.publicKeys, w.secrets, w.backends, w.repos, w.repoCreds,
		w.fleetsOf, w.instancesOf, w.volumes, w.runsOf, w.jobs, w.events,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	w.reportOrphans()
	return t.flush(ctx)
}

// simple copies a table whose rows depend on nothing but what is known.
func simple[R any](ctx context.Context, w *world, table, order string, read func(*record) R, insert func(*store.Tx, *R) error) error {
	return w.each(ctx, table, "ORDER BY "+order, func(r *record) error {
		if w.orphaned(r) {
			return nil
		}
		row := read(r)
		if r.err != nil {
			return fmt.Errorf("take over: %w", r.err)
		}
		w.learn(r)
		return w.add(ctx, table, r.title(), func(tx *store.Tx) error { return insert(tx, &row) })
	})
}

func (w *world) users(ctx context.Context) error {
	return simple(ctx, w, "users", "created_at, id", user, (*store.Tx).InsertUser)
}

func (w *world) publicKeys(ctx context.Context) error {
	return simple(ctx, w, "user_public_keys", "created_at, id", publicKey, (*store.Tx).InsertPublicKey)
}

func (w *world) secrets(ctx context.Context) error {
	return simple(ctx, w, "secrets", "created_at, id", secret, (*store.Tx).InsertSecret)
}

func (w *world) repos(ctx context.Context) error {
	return simple(ctx, w, "repos", "id", repo, (*store.Tx).PutRepo)
}

func (w *world) repoCreds(ctx context.Context) error {
	return simple(ctx, w, "repo_creds", "id", repoCreds, (*store.Tx).PutRepoCreds)
}

func (w *world) projectsOf(ctx context.Context) error {
	read := func(r *record) store.Project {
		p := project(r)
		w.projects[p.ID] = p.Name
		return p
	}
	return simple(ctx, w, "projects", "created_at, id", read, (*store.Tx).InsertProject)
}

// members takes over who may use a project. 0.22.5 has a user twice who was
// added by two requests at once.
func (w *world) members(ctx context.Context) error {
	seen := map[[2]string]bool{}
	return w.each(ctx, "members", "ORDER BY project_id, member_num, id", func(r *record) error {
		if w.orphaned(r) {
			return nil
		}
		project, user, role := r.id("project_id"), r.id("user_id"), r.name("project_role")
		if r.err != nil {
			return fmt.Errorf("take over: %w", r.err)
		}
		if seen[[2]string{project, user}] {
			return nil
		}
		seen[[2]string{project, user}] = true
		return w.add(ctx, "members", r.title(), func(tx *store.Tx) error { return tx.AddMember(project, user, role) })
	})
}

// backends takes over the newest of each type: 0.22.5 lets a project have two
// that were made by two requests at once.
func (w *world) backends(ctx context.Context) error {
	seen := map[[2]string]bool{}
	return w.each(ctx, "backends", "ORDER BY rowid DESC", func(r *record) error {
		if w.orphaned(r) {
			return nil
		}
		row := backend(r)
		if r.err != nil {
			w.leaveOutf("The backend %s of project %s could not be read: configure it again", row.Type, w.projects[row.ProjectID])
			return nil //nolint:nilerr // it is reported
		}
		if seen[[2]string{row.ProjectID, row.Type}] {
			w.leaveOutf("The project %s has the backend %s twice: the newer one was taken over; configure it again if that is the wrong one", w.projects[row.ProjectID], row.Type)
			return nil
		}
		seen[[2]string{row.ProjectID, row.Type}] = true
		return w.add(ctx, "backends", r.title(), func(tx *store.Tx) error { return tx.InsertBackend(&row) })
	})
}

func (w *world) fleetsOf(ctx context.Context) error {
	return w.each(ctx, "fleets", "ORDER BY created_at, id", func(r *record) error {
		if w.orphaned(r) {
			return nil
		}
		row := fleet(r)
		if r.err != nil && !r.flag("deleted") {
			return fmt.Errorf("take over fleet %s: %w", row.Name, r.err)
		}
		w.fleets[row.ID] = &row
		return w.add(ctx, "fleets", r.title(), func(tx *store.Tx) error {
			if err := tx.InsertFleet(&row); err != nil || row.Deleted {
				return err //nolint:wrapcheck // wrapped by flush
			}
			return tx.Wake(w.now, store.Key{Kind: store.KindFleet, ID: row.ID}) //nolint:wrapcheck // wrapped by flush
		})
	})
}

func (w *world) instancesOf(ctx context.Context) error {
	err := w.each(ctx, "instances", "WHERE fleet_id IS NULL AND status <> 'TERMINATED'", func(r *record) error {
		w.leaveOutf("The host %s of project %s is in no fleet: add it to one", r.text("name"), w.projects[r.id("project_id")])
		return r.err
	})
	if err != nil {
		return err
	}
	return w.each(ctx, "instances", "WHERE fleet_id IS NOT NULL ORDER BY created_at, id", func(r *record) error {
		if w.orphaned(r) {
			return nil
		}
		fleet := w.fleets[r.id("fleet_id")]
		if fleet == nil {
			w.orphans[r.table]++
			return nil
		}
		row := instance(r, fleet, w.now)
		ended := row.Status == api.InstanceTerminated
		if r.err != nil && ended {
			return nil // of a version whose rows had another form
		}
		if r.err != nil {
			return fmt.Errorf("take over instance %s: %w", row.Name, r.err)
		}
		w.instances[row.ID] = true
		return w.add(ctx, "instances", r.title(), func(tx *store.Tx) error {
			if err := tx.InsertInstance(&row); err != nil || ended {
				return err //nolint:wrapcheck // wrapped by flush
			}
			return tx.Wake(w.now, store.Key{Kind: store.KindInstance, ID: row.ID}) //nolint:wrapcheck // wrapped by flush
		})
	})
}

func (w *world) volumes(ctx context.Context) error {
	return w.each(ctx, "volumes", "ORDER BY created_at, id", func(r *record) error {
		if w.orphaned(r) {
			return nil
		}
		row := volume(r)
		if r.err != nil && row.Deleted {
			return nil // of a version whose rows had another form
		}
		if r.err != nil {
			return fmt.Errorf("take over volume %s: %w", row.Name, r.err)
		}
		return w.add(ctx, "volumes", r.title(), func(tx *store.Tx) error {
			if err := tx.InsertVolume(&row); err != nil || row.Deleted {
				return err //nolint:wrapcheck // wrapped by flush
			}
			return tx.Wake(w.now, store.Key{Kind: store.KindVolume, ID: row.ID}) //nolint:wrapcheck // wrapped by flush
		})
	})
}
