package api

import (
	"fmt"

	"github.com/google/uuid"

	"dstack/controller/store"
)

// record stores an event of the caller, in the transaction of the change
// (spec: orchestration.md 11). What the engine changes, it records itself.
func (a *API) record(tx *store.Tx, c call, message string, targets ...store.EventTarget) error {
	err := tx.InsertEvents(store.Event{
		ID: uuid.NewString(), Message: message, RecordedAt: a.deps.Now(), ActorID: &c.User.ID, Targets: targets,
	})
	if err != nil {
		return fmt.Errorf("record event: %w", err)
	}
	return nil
}

func userTarget(u *store.User) store.EventTarget {
	return store.EventTarget{Type: "user", ID: u.ID, Name: u.EventName()}
}

func projectTarget(p *store.Project) store.EventTarget {
	return store.EventTarget{Type: "project", ProjectID: &p.ID, ID: p.ID, Name: p.EventName()}
}

func runTarget(r *store.Run) store.EventTarget {
	return store.EventTarget{Type: "run", ProjectID: &r.ProjectID, ID: r.ID, Name: r.Name, RunID: &r.ID}
}

func jobTarget(j *store.Job) store.EventTarget {
	return store.EventTarget{Type: "job", ProjectID: &j.ProjectID, ID: j.ID, Name: j.Spec.JobName, RunID: &j.RunID}
}
