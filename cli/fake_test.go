package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

const (
	fakeToken   = "the-token"
	fakeProject = "main"
)

var fakeStart = time.Date(2026, 11, 25, 11, 0, 0, 0, time.UTC)

// fakeServer answers like a server whose hosts do what the first command of
// a task says: "exit N", "signal N", "no capacity", "retry", "hang"
// (until it is stopped), "stubborn" (until it is aborted), "stuck" (never
// starts), else print it and end well. A host whose name starts with "bad"
// has no sudo.
type fakeServer struct {
	mu      sync.Mutex
	changed chan struct{}
	runs    []*fakeRun
	fleets  []*api.Fleet
	events  []api.Event
	ids     int
	// old servers have no streams.
	old       bool
	resources fakeResources
	// repos, archives and uploads by their ids and hashes; how many there
	// were of each call.
	repos           map[string]api.RepoHeadWithCreds
	archives        []api.FileArchive
	uploads         map[string][]byte
	inits, uploaded int
	// ssh is where jobs that "serve" are reached.
	ssh *fakeSSH
}

type fakeRun struct {
	api.Run
	log    string
	states []func(*fakeRun)
}

func newFakeServer() *fakeServer {
	return &fakeServer{changed: make(chan struct{}), resources: newFakeResources(), repos: map[string]api.RepoHeadWithCreds{}, uploads: map[string][]byte{}}
}

func (f *fakeServer) id() string {
	f.ids++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", f.ids)
}

// notify wakes all who wait; the caller holds the lock.
func (f *fakeServer) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

type fakeError struct {
	status int
	body   string
}

func (e fakeError) Error() string { return e.body }

func failure(code, msg string) error {
	return fakeError{400, fmt.Sprintf(`{"detail":[{"msg":%q,"code":%q}]}`, msg, code)}
}

var errNotThere = failure("resource_not_exists", "Resource not found")

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+fakeToken && r.URL.Path != "/api/server/get_info" {
		http.Error(w, `{"detail":{"msg":"Invalid token","code":null}}`, http.StatusForbidden)
		return
	}
	w.Header().Set("Date", fakeStart.Add(time.Hour).UTC().Format(http.TimeFormat)) // as testEnv's clock
	call := strings.TrimPrefix(r.URL.Path, "/api/")
	if rest, ok := strings.CutPrefix(call, "project"); ok && strings.HasPrefix(rest, "s/") == false {
		project, method, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		if project != fakeProject {
			http.Error(w, `{"detail":{"msg":"Not found","code":null}}`, http.StatusNotFound)
			return
		}
		call = method
	}
	if f.old && (call == "runs/watch" || call == "logs/follow" || call == "metrics/usage") {
		http.Error(w, `{"detail":"Method Not Allowed"}`, http.StatusMethodNotAllowed)
		return
	}
	switch call {
	case "runs/watch":
		f.watch(w, r)
		return
	case "logs/follow":
		f.followLogs(w, r)
		return
	case "files/upload_archive", "repos/upload_code":
		f.upload(w, r)
		return
	}
	answer, err := f.answer(call, json.NewDecoder(r.Body))
	if err != nil {
		e, ok := errors.AsType[fakeError](err)
		if !ok {
			e = fakeError{500, err.Error()}
		}
		w.WriteHeader(e.status)
		_, _ = w.Write([]byte(e.body))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	sendLine(w, answer)
}

// sendLine writes one line of JSON.
func sendLine(w io.Writer, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err) // net/http shows it and ends the connection
	}
}

// in decodes a request body.
func in[T any](d *json.Decoder) T {
	var v T
	_ = d.Decode(&v)
	return v
}

func (f *fakeServer) answer(call string, body *json.Decoder) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if answer, err, known := f.resources.answer(call, body); known {
		return answer, err
	}
	if name, ok := strings.CutPrefix(call, "metrics/job/"); ok {
		return fakeMetrics(name), nil
	}
	switch call {
	case "metrics/usage":
		return f.usage(in[api.UsageRequest](body))
	case "server/get_info":
		return api.ServerInfo{ServerVersion: "0.22.5"}, nil
	case "server/sweep":
		return f.sweep(in[api.SweepRequest](body)), nil
	case "users/get_my_user":
		return f.me(), nil
	case "projects/main/get":
		return api.Project{ProjectID: "00000000-0000-4000-8000-00000000aaaa", ProjectName: fakeProject}, nil
	case "runs/get_plan":
		return f.planRun(in[api.GetRunPlanRequest](body)), nil
	case "runs/apply":
		return f.applyRun(in[api.ApplyRunPlanRequest](body)), nil
	case "runs/get":
		req := in[api.GetRunRequest](body)
		return f.getRun(req.RunName, req.ID)
	case "runs/list":
		return f.listRuns(in[api.ListRunsRequest](body)), nil
	case "runs/stop":
		f.stopRuns(in[api.StopRunsRequest](body))
		return nil, nil
	case "runs/delete":
		return nil, f.deleteRuns(in[api.DeleteRunsRequest](body))
	case "logs/poll":
		return f.pollLogs(in[api.PollLogsRequest](body)), nil
	case "fleets/get_plan":
		return f.planFleet(in[api.GetFleetPlanRequest](body)), nil
	case "fleets/apply":
		return f.applyFleet(in[api.ApplyFleetPlanRequest](body)), nil
	case "fleets/get":
		return f.getFleet(in[api.GetFleetRequest](body))
	case "fleets/list":
		return f.fleets, nil
	case "fleets/delete":
		for _, name := range in[api.DeleteFleetsRequest](body).Names {
			f.fleets = slices.DeleteFunc(f.fleets, func(x *api.Fleet) bool { return x.Name == name })
		}
		return nil, nil
	case "fleets/delete_instances":
		req := in[api.DeleteFleetInstancesRequest](body)
		for _, fleet := range f.fleets {
			if fleet.Name == req.Name {
				fleet.Instances = slices.DeleteFunc(fleet.Instances, func(i api.Instance) bool { return slices.Contains(req.InstanceNums, i.InstanceNum) })
			}
		}
		return nil, nil
	case "events/list":
		return f.events, nil
	}
	return f.answerFiles(call, body)
}

func (f *fakeServer) planRun(req api.GetRunPlanRequest) api.RunPlan {
	effective := req.RunSpec
	effective.Configuration = withDefaults(req.RunSpec.Configuration)
	onDemand := false
	plan := api.RunPlan{
		ProjectName: fakeProject, User: "admin", RunSpec: req.RunSpec, EffectiveRunSpec: &effective, Action: "create",
		JobPlans: []api.JobPlan{{JobSpec: api.JobSpec{Requirements: api.Requirements{Resources: effective.Configuration.Base().Resources, Spot: &onDemand}}}},
		Warnings: []string{"task runs as a plain process on this host: no isolation"},
	}
	if len(f.fleets) > 0 {
		plan.JobPlans[0].Offers = []api.Offer{{Backend: "remote", Region: "remote", Instance: fakeMachine(), Availability: "idle", Blocks: 1, TotalBlocks: 1}}
		plan.JobPlans[0].TotalOffers = 1
	}
	if req.ForOffersOnly {
		plan.Warnings = nil
		if req.RunSpec.Configuration.Task.MaxPrice != nil {
			plan.Warnings = []string{"Backend aws: its offers have not arrived yet"}
		}
		plan.JobPlans[0] = fakeOffers(req, plan.JobPlans[0])
	}
	if run := f.find(deref(req.RunSpec.RunName)); run != nil {
		current := run.Run
		plan.CurrentResource = &current
	}
	return plan
}

// withDefaults is what a server makes of a configuration.
func withDefaults(conf config.Run) config.Run {
	conf = conf.Clone()
	if conf.Task != nil {
		nodes := 1
		conf.Task.Nodes = &nodes
	}
	return conf
}

// commandOf is the command that decides what happens to a run.
func commandOf(conf config.Run) string {
	switch {
	case conf.Task != nil:
		return conf.Task.Commands[0]
	case conf.Service != nil:
		return conf.Service.Commands[0]
	}
	return "dev"
}

func fakeMachine() api.InstanceType {
	arch := "x86"
	return api.InstanceType{Name: "instance", Resources: api.Resources{CPUs: 4, MemoryMiB: 16384, Disk: api.Disk{SizeMiB: 102400}, CPUArch: &arch}}
}

func (f *fakeServer) find(name string) *fakeRun {
	for _, run := range f.runs {
		if runName(run.Run) == name {
			return run
		}
	}
	return nil
}

func (f *fakeServer) applyRun(req api.ApplyRunPlanRequest) api.Run {
	spec := req.Plan.RunSpec
	spec.Configuration = withDefaults(spec.Configuration)
	if spec.RunName == nil {
		name := "quiet-fox-1"
		spec.RunName = &name
	}
	f.runs = slices.DeleteFunc(f.runs, func(r *fakeRun) bool { return runName(r.Run) == *spec.RunName })
	run := &fakeRun{Run: api.Run{
		ID: f.id(), ProjectName: fakeProject, User: "admin", SubmittedAt: api.At(fakeStart), LastProcessedAt: api.At(fakeStart),
		Status: api.RunSubmitted, StatusMessage: "submitted", RunSpec: spec,
		Jobs: []api.Job{{JobSpec: api.JobSpec{JobName: *spec.RunName + "-0-0", JobsPerReplica: 1}, JobSubmissions: []api.JobSubmission{{
			ID: f.id(), SubmittedAt: api.At(fakeStart), Status: api.JobSubmitted, StatusMessage: "submitted",
		}}}},
	}}
	if conf := spec.Configuration.Service; conf != nil {
		run.Service = &api.Service{URL: "/proxy/services/main/" + *spec.RunName + "/"}
		if conf.Model != nil {
			run.Service.Model = &api.ServiceModel{Name: conf.Model.Name, BaseURL: "https://gw.example.com/v1", Type: "chat"}
		}
	}
	command := commandOf(spec.Configuration)
	if command == "sources" {
		command = f.sources(spec)
	}
	run.script(f, command)
	f.runs = append([]*fakeRun{run}, f.runs...)
	return run.Run
}

func (f *fakeServer) getRun(name, id *string) (any, error) {
	for _, run := range f.runs {
		if (id != nil && run.ID == *id) || (id == nil && runName(run.Run) == deref(name)) {
			answer := run.Run
			if f.old {
				run.move(f)
			}
			return answer, nil
		}
	}
	return nil, errNotThere
}

func (f *fakeServer) listRuns(req api.ListRunsRequest) []api.Run {
	list := []api.Run{}
	for _, run := range f.runs {
		if (!req.OnlyActive || !run.Status.Finished()) && len(list) < *req.Limit {
			list = append(list, run.Run)
		}
	}
	return list
}

func (f *fakeServer) stopRuns(req api.StopRunsRequest) {
	for _, name := range req.RunsNames {
		run := f.find(name)
		if run == nil || run.Status.Finished() || (run.log == "stubborn\n" && !req.Abort) {
			continue
		}
		sub := &run.Jobs[0].JobSubmissions[0]
		run.Status, run.StatusMessage, sub.Status, sub.StatusMessage = api.RunTerminated, "terminated", api.JobTerminated, "stopped"
		if req.Abort {
			sub.Status, sub.StatusMessage = api.JobAborted, "aborted"
		}
		reason := string(api.ReasonTerminatedByUser)
		sub.TerminationReason = &reason
		run.states = nil
	}
	f.notify()
}

func (f *fakeServer) deleteRuns(req api.DeleteRunsRequest) error {
	for _, name := range req.RunsNames {
		if run := f.find(name); run != nil && !run.Status.Finished() {
			return failure("error", fmt.Sprintf("Cannot delete active runs: ['%s']", name))
		}
		f.runs = slices.DeleteFunc(f.runs, func(r *fakeRun) bool { return runName(r.Run) == name })
	}
	return nil
}

// watch sends a run and moves it on to its next state, until it is finished.
func (f *fakeServer) watch(w http.ResponseWriter, r *http.Request) {
	req := in[api.WatchRunRequest](json.NewDecoder(r.Body))
	w.Header().Set("Content-Type", "application/x-ndjson")
	for {
		f.mu.Lock()
		var run *fakeRun
		for _, candidate := range f.runs {
			if candidate.ID == deref(req.ID) {
				run = candidate
			}
		}
		if run == nil {
			f.mu.Unlock()
			http.Error(w, errNotThere.Error(), http.StatusBadRequest)
			return
		}
		finished, changed := run.Status.Finished(), f.changed
		sendLine(w, run.Run)
		w.(http.Flusher).Flush()
		moved := run.move(f)
		f.mu.Unlock()
		if finished {
			return
		}
		if !moved {
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// move takes a run to its next state, if it has one.
func (r *fakeRun) move(f *fakeServer) bool {
	if len(r.states) == 0 {
		return false
	}
	next := r.states[0]
	r.states = r.states[1:]
	r.Jobs = slices.Clone(r.Jobs)
	r.Jobs[0].JobSubmissions = slices.Clone(r.Jobs[0].JobSubmissions)
	next(r)
	f.notify()
	return true
}

func (f *fakeServer) ofSubmission(id string) (run *fakeRun, job api.JobSubmission) {
	for _, run := range f.runs {
		for _, sub := range run.Jobs[0].JobSubmissions {
			if sub.ID == id {
				return run, sub
			}
		}
	}
	return nil, job
}

func (f *fakeServer) followLogs(w http.ResponseWriter, r *http.Request) {
	req := in[api.FollowLogsRequest](json.NewDecoder(r.Body))
	w.Header().Set("Content-Type", "application/x-ndjson")
	sent := false
	for {
		f.mu.Lock()
		run, job := f.ofSubmission(req.JobSubmissionID)
		changed := f.changed
		f.mu.Unlock()
		if run == nil {
			http.Error(w, errNotThere.Error(), http.StatusBadRequest)
			return
		}
		if (job.Status == api.JobRunning || job.Status.Finished()) && !sent {
			sent = true
			sendLine(w, api.LogChunk{Offset: req.Offset, Timestamp: api.At(fakeStart), Message: []byte(run.log[req.Offset:])})
			w.(http.Flusher).Flush()
		}
		if job.Status.Finished() {
			sendLine(w, api.LogChunk{Offset: int64(len(run.log)), End: true})
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (f *fakeServer) pollLogs(req api.PollLogsRequest) api.JobSubmissionLogs {
	run, _ := f.ofSubmission(req.JobSubmissionID)
	if run == nil || req.NextToken != nil {
		return api.JobSubmissionLogs{Logs: []api.LogEvent{}}
	}
	text, token := run.log, "1"
	if req.Diagnose {
		text = "agent: " + text
	}
	return api.JobSubmissionLogs{NextToken: &token, Logs: []api.LogEvent{{
		Timestamp: api.At(fakeStart), LogSource: "stdout", Message: base64.StdEncoding.EncodeToString([]byte(text)),
	}}}
}
