package prometheus

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// Gauges are what the server is asked for at each scrape.
type Gauges struct {
	// Queue is how many resources wait to be looked at.
	Queue func() int
	// Hosts is how many hosts are connected.
	Hosts func() int
	// Replica is how far the database's replica is behind, and how often it
	// could not be reached; nil if there is none.
	Replica func() (lag time.Duration, failures int64)
	// Logs is how the copying of logs to their storage stands; nil if they are
	// not copied.
	Logs func() LogGauges
	// Archives is how often the object storage of archives could not be used;
	// nil if there is none.
	Archives func() (failures int64)
}

// LogGauges are what a storage of logs is measured by.
type LogGauges struct {
	Bytes    int64         // that the storage lacks
	Lag      time.Duration // of the oldest of them
	Failures int64         // of attempts so far
	Lost     int64         // bytes that were removed before the storage had them
}

// Exporter counts what happens and tells it together with what is stored. It
// is safe for concurrent use.
type Exporter struct {
	store  *store.Store
	now    func() time.Time
	gauges Gauges

	provisioned, pending, requests, took, calls vector
}

// New makes an exporter that has counted nothing.
func New(st *store.Store, now func() time.Time, gauges Gauges) *Exporter {
	return &Exporter{
		store: st, now: now, gauges: gauges,
		provisioned: vector{
			names:   []string{"project_name", "run_type"},
			buckets: []float64{15, 30, 45, 60, 90, 120, 180, 240, 300, 360, 420, 480, 540, 600, 900, 1200, 1800},
		},
		pending:  vector{names: []string{"project_name", "run_type"}},
		requests: vector{names: []string{"method", "route", "status"}},
		calls: vector{
			names: []string{"backend", "operation", "error"}, buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		},
		took: vector{names: []string{"method", "route"}, buckets: []float64{0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10}},
	}
}

// RunMoved counts a run that got another status some time after it was
// submitted.
func (e *Exporter) RunMoved(projectID, runType string, from, to api.RunStatus, since time.Duration) {
	switch {
	case to == api.RunPending:
		e.pending.observe(0, projectID, runType)
	case from == api.RunSubmitted && (to == api.RunProvisioning || to == api.RunRunning):
		e.provisioned.observe(since, projectID, runType)
	}
}

// Request counts an answered request to a route.
func (e *Exporter) Request(method, route string, status int, took time.Duration) {
	e.requests.observe(took, method, route, strconv.Itoa(status))
	e.took.observe(took, method, route)
}

// CloudCall counts a call to a cloud; failure is the kind of its error, empty
// if all went well.
func (e *Exporter) CloudCall(backend, operation, failure string, took time.Duration) {
	e.calls.observe(took, backend, operation, failure)
}

// Write writes all that is known now.
func (e *Exporter) Write(ctx context.Context, w io.Writer) error {
	var families []*family
	var projects map[string]store.Project
	err := e.store.Read(ctx, func(tx *store.Tx) error {
		s, err := takeSnapshot(tx, e.now())
		if err != nil {
			return err
		}
		families, projects = s.families(), s.projects
		return nil
	})
	if err != nil {
		return fmt.Errorf("read for Prometheus: %w", err)
	}
	named := func(values []string) []string { return []string{projects[values[0]].Name, values[1]} }
	provisioned := &family{
		name: "dstack_submit_to_provision_duration_seconds", kind: histogram, empty: true,
		help: "Time from when a run has been submitted and first job provisioning",
	}
	e.provisioned.fill(provisioned, named)
	pending := &family{name: "dstack_pending_runs_total", kind: counter, help: "Number of pending runs", empty: true}
	e.pending.fill(pending, named)
	requests := &family{name: "dstack_server_http_requests_total", kind: counter, help: "Requests by route and status of the answer"}
	e.requests.fill(requests, asIs)
	took := &family{name: "dstack_server_http_request_duration_seconds", kind: histogram, help: "Time to answer a request, streams included"}
	e.took.fill(took, asIs)
	calls := &family{name: "dstack_server_cloud_call_duration_seconds", kind: histogram, help: "Time of calls to clouds by how they ended"}
	e.calls.fill(calls, asIs)
	queue := &family{name: "dstack_server_engine_queue_length", kind: gauge, help: "Resources that wait to be looked at"}
	queue.add(float64(e.gauges.Queue()), nil)
	hosts := &family{name: "dstack_server_hosts_connected", kind: gauge, help: "Hosts that are connected"}
	hosts.add(float64(e.gauges.Hosts()), nil)
	families = append(families, provisioned, pending, requests, took, queue, hosts)
	if e.gauges.Replica != nil {
		families = append(families, replicated(e.gauges.Replica())...)
	}
	if e.gauges.Logs != nil {
		families = append(families, shipped(e.gauges.Logs())...)
	}
	if e.gauges.Archives != nil {
		failed := &family{name: "dstack_server_archive_failures_total", kind: counter, help: "Requests to the object storage of code and files that failed"}
		failed.add(float64(e.gauges.Archives()), nil)
		families = append(families, failed)
	}
	return write(w, families)
}

func replicated(lag time.Duration, failures int64) []*family {
	behind := &family{name: "dstack_server_replication_lag_seconds", kind: gauge, help: "Age of the oldest change that the replica of the database lacks"}
	behind.add(lag.Seconds(), nil)
	failed := &family{name: "dstack_server_replication_failures_total", kind: counter, help: "Attempts to replicate the database that failed"}
	failed.add(float64(failures), nil)
	return []*family{behind, failed}
}

func shipped(g LogGauges) []*family {
	families := []*family{
		{name: "dstack_server_logs_lag_bytes", kind: gauge, help: "Bytes of logs that their storage lacks"},
		{name: "dstack_server_logs_lag_seconds", kind: gauge, help: "Time that the oldest of these bytes has waited"},
		{name: "dstack_server_logs_failures_total", kind: counter, help: "Attempts to copy logs to their storage that failed"},
		{name: "dstack_server_logs_lost_bytes_total", kind: counter, help: "Bytes of logs removed from the disk before their storage had them"},
	}
	for i, value := range []float64{float64(g.Bytes), g.Lag.Seconds(), float64(g.Failures), float64(g.Lost)} {
		families[i].add(value, nil)
	}
	return families
}
