package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"dstack/controller/auth"
	"dstack/controller/engine"
	"dstack/controller/engine/jobspec"
	"dstack/controller/logs"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// benchAPI is the API on a database file with runs that ended and 50
// instances, without the network in between.
type benchAPI struct {
	b       *testing.B
	store   *store.Store
	handler http.Handler
	jobID   string
}

func newBench(b *testing.B, runs int) *benchAPI {
	b.Helper()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key, err := store.NewSealer(store.AESKey{Name: "k"})
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(b.Context(), store.Options{Path: filepath.Join(b.TempDir(), "db"), Sealer: key})
	if err != nil {
		b.Fatal(err)
	}
	logStore := logs.New(logs.Options{Dir: b.TempDir()})
	b.Cleanup(func() {
		if err := errors.Join(logStore.Close(), s.Close()); err != nil {
			b.Error(err)
		}
	})
	out := &benchAPI{b: b, store: s}
	admin := user("admin", auth.RoleAdmin, adminToken, at)
	project := store.Project{ID: uuid.NewString(), Name: "main", OwnerID: admin.ID, CreatedAt: at}
	fleet := store.Fleet{ID: uuid.NewString(), ProjectID: project.ID, Name: "lab", Status: api.FleetActive, CreatedAt: at}
	out.write(func(tx *store.Tx) error {
		return errors.Join(tx.InsertUser(&admin), tx.InsertProject(&project),
			tx.SetMembers(project.ID, []store.Member{{UserID: admin.ID, Role: auth.RoleAdmin}}), tx.InsertFleet(&fleet))
	})
	kind := &api.InstanceType{Name: "instance", Resources: api.Resources{CPUs: 64, MemoryMiB: 1 << 19, Disk: api.Disk{SizeMiB: 1 << 20}, CPUArch: new("x86")}}
	out.write(func(tx *store.Tx) error {
		for n := range 50 {
			i := store.Instance{
				ID: uuid.NewString(), ProjectID: project.ID, FleetID: fleet.ID, Name: fmt.Sprintf("lab-%d", n), Num: n, Backend: "remote",
				Region: "remote", Status: api.InstanceIdle, CreatedAt: at, TotalBlocks: 1, Type: kind, Access: store.Access{Host: "h"},
			}
			if err := tx.InsertInstance(&i); err != nil {
				return err
			}
		}
		return nil
	})
	out.addRuns(runs, project, admin, fleet, at)
	line := bytes.Repeat([]byte("a line of a log "), 6)
	for i := range 1000 {
		if _, err := logStore.Append(b.Context(), logs.Key{Project: "main", Run: "run-0", JobID: out.jobID}, int64(i*len(line)), at, line); err != nil {
			b.Fatal(err)
		}
	}
	out.handler = New(Deps{
		Store: s, Logs: logStore, Registries: deaf{}, Policy: auth.Policy(config.StandardPermissions()), Changes: NewChanges(),
		Engine: engine.New(engine.Config{Store: s, Hosts: noHosts{}, Now: time.Now, NewID: uuid.NewString, Log: zerolog.Nop()}),
		Limits: RunLimits{MetricsWindow: 3600, MaxProbes: 10, MaxProbeTimeout: 300}, Now: time.Now, Log: zerolog.Nop(),
	})
	return out
}

func (x *benchAPI) write(fn func(*store.Tx) error) {
	x.b.Helper()
	if err := x.store.Write(context.WithoutCancel(x.b.Context()), fn); err != nil {
		x.b.Fatal(err)
	}
}

func (x *benchAPI) addRuns(n int, project store.Project, admin store.User, fleet store.Fleet, at time.Time) {
	spec := api.RunSpec{Configuration: config.Run{Task: &config.Task{
		Type: config.TypeTask, Commands: []string{"python train.py"}, RunBase: config.RunBase{Resources: config.DefaultResources()},
	}}}
	const group = 1000
	for first := 0; first < n; first += group {
		x.write(func(tx *store.Tx) error {
			for i := first; i < min(n, first+group); i++ {
				name := fmt.Sprintf("run-%d", i)
				spec.RunName = &name
				r := store.Run{
					ID: uuid.NewString(), ProjectID: project.ID, UserID: admin.ID, FleetID: &fleet.ID, Name: name, Spec: spec,
					SubmittedAt: at.Add(time.Duration(i) * time.Second), Status: api.RunDone, Reason: new(api.ReasonAllJobsDone),
				}
				jobs, err := jobspec.Build(spec, nil, jobspec.Options{})
				if err != nil {
					return err
				}
				j := store.Job{
					ID: uuid.NewString(), RunID: r.ID, ProjectID: project.ID, RunName: name, SubmittedAt: r.SubmittedAt,
					FinishedAt: new(r.SubmittedAt.Add(time.Minute)), Status: api.JobDone, Reason: new(api.ReasonDoneByRunner), Spec: jobs[0],
				}
				if i == 0 {
					x.jobID = j.ID
				}
				if err := errors.Join(tx.InsertRun(&r), tx.InsertJob(&j)); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// serve sends the request b.N times; each time the rows change first if busy.
func (x *benchAPI) serve(b *testing.B, path, body string, busy bool) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if busy {
			x.touch(b)
		}
		req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, path, bytes.NewReader([]byte(body)))
		req.Header.Set("Authorization", "Bearer "+adminToken)
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		x.handler.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
		b.SetBytes(int64(w.Body.Len()))
	}
}

// touch makes everything that is remembered old, outside of the measurement.
func (x *benchAPI) touch(b *testing.B) {
	b.StopTimer()
	x.write(func(tx *store.Tx) error { return tx.Wake(time.Now(), store.Key{Kind: store.KindFleet, ID: "x"}) })
	b.StartTimer()
}

// BenchmarkAPI measures the calls of `make bench-api`, on rows that rest and on
// rows that change before each call.
func BenchmarkAPI(b *testing.B) {
	x := newBench(b, 1000)
	poll, err := json.Marshal(map[string]any{"run_name": "run-0", "job_submission_id": x.jobID, "limit": 100})
	if err != nil {
		b.Fatal(err)
	}
	calls := []struct{ name, path, body string }{
		{"runs", "/api/runs/list", "{}"},
		{"instances", "/api/instances/list", "{}"},
		{"projects", "/api/projects/list", "{}"},
		{"plan", "/api/project/main/runs/get_plan", `{"run_spec":{"configuration":{"type":"task","commands":["a"]}},"max_offers":3}`},
		{"logs", "/api/project/main/logs/poll", string(poll)},
	}
	for _, c := range calls {
		b.Run(c.name+"/resting", func(b *testing.B) { x.serve(b, c.path, c.body, false) })
		b.Run(c.name+"/changing", func(b *testing.B) { x.serve(b, c.path, c.body, true) })
	}
}

// BenchmarkManyRuns lists runs of a database with 100,000 of them: it has to
// stay within twice the time that 1,000 take.
func BenchmarkManyRuns(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		x := newBench(b, n)
		for name, body := range map[string]string{"all": "{}", "project": `{"project_name":"main"}`, "user": `{"username":"admin"}`, "active": `{"only_active":true}`} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) { x.serve(b, "/api/runs/list", body, true) })
		}
	}
}
