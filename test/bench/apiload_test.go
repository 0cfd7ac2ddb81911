//go:build e2e

package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"
	_ "modernc.org/sqlite" // the real server's database

	"dstack/controller/logs"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/test/lab"
)

// measured is what wrk saw.
type measured struct {
	rate     float64
	p50, p99 time.Duration
}

// wrk sends one request over 16 connections for some seconds; any answer but
// 200 fails the test. It has one thread, so that it leaves a core to the
// server on a machine with two.
func wrk(t *testing.T, url string, l apiLoad, seconds string) measured {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "wrk", "-t1", "-c16", "-d"+seconds+"s", "--timeout", "60s", "-s", "post.lua", url+l.path)
	cmd.Env = append(os.Environ(), "BENCH_TOKEN="+lab.Token, "BENCH_BODY="+l.body)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("wrk (test/ci/setup.sh installs it): %v\n%s", err, out)
	}
	var got struct {
		Requests int     `json:"requests"`
		Errors   int     `json:"errors"`
		Seconds  float64 `json:"seconds"`
		P50      float64 `json:"p50"`
		P99      float64 `json:"p99"`
	}
	line := out[bytes.LastIndexByte(bytes.TrimSpace(out), '\n')+1:]
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	// A slow server answers nothing while it warms up.
	if got.Errors > 0 || got.Requests == 0 && seconds != warmUp {
		t.Fatalf("%s: %d requests, %d errors\n%s", l.name, got.Requests, got.Errors, out)
	}
	m := measured{float64(got.Requests) / got.Seconds, time.Duration(got.P50 * float64(time.Microsecond)), time.Duration(got.P99 * float64(time.Microsecond))}
	return m
}

// changing commits a row each 100 ms until stop, which waits for the end.
func changing(t *testing.T, s *lab.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := s.Call(ctx, "project/main/secrets/create_or_update", map[string]any{"name": "changes", "value": strconv.Itoa(n)}, nil)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// memory is a process's resident memory in KiB.
func memory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// multiplyOurs ends the run, copies it and writes the first one's log.
func multiplyOurs(t *testing.T, dir, job string, runs int) {
	t.Helper()
	ctx := t.Context()
	sealer, err := store.LoadSealer(store.KeySource{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "data", "sqlite.db"), Sealer: sealer})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	const batch = 1000
	for done := 0; done < runs; done += batch {
		if err := s.Write(ctx, func(tx *store.Tx) error { return copyRun(tx, job, done, min(runs, done+batch)) }); err != nil {
			t.Fatal(err)
		}
	}
	l := logs.New(logs.Options{Dir: dir})
	offset := int64(0)
	now := time.Now().UTC()
	for i := range apiLogLines {
		line := logLine(i)
		if offset, err = l.Append(ctx, logs.Key{Project: "main", Run: "bench-0", JobID: job}, offset, now.Add(time.Duration(i)*time.Millisecond), line); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyRun makes runs from to to-1 of the run that has the job.
func copyRun(tx *store.Tx, jobID string, from, to int) error {
	job, err := tx.Job(jobID)
	if err != nil {
		return err
	}
	run, err := tx.Run(job.RunID)
	if err != nil {
		return err
	}
	over, reason, why := job.SubmittedAt.Add(time.Minute), api.ReasonAllJobsDone, api.ReasonDoneByRunner
	exit := 0
	run.Status, run.Reason = api.RunDone, &reason
	job.Status, job.Reason, job.FinishedAt, job.ExitStatus = api.JobDone, &why, &over, &exit
	if from == 0 {
		if err := tx.UpdateRun(&run); err != nil {
			return err
		}
		if err := tx.UpdateJob(&job); err != nil {
			return err
		}
		from = 1
	}
	for i := from; i < to; i++ {
		r, j := run, job
		r.ID, r.Name, r.SubmittedAt = uuid.NewString(), fmt.Sprintf("bench-%d", i), run.SubmittedAt.Add(time.Duration(i)*time.Millisecond)
		j.ID, j.RunID, j.RunName, j.SubmittedAt = uuid.NewString(), r.ID, r.Name, r.SubmittedAt
		if err := tx.InsertRun(&r); err != nil {
			return err
		}
		if err := tx.InsertJob(&j); err != nil {
			return err
		}
	}
	return nil
}

func logLine(i int) []byte {
	return fmt.Appendf(nil, "line %06d of what a job may print: %s\n", i, strings.Repeat("x", 60))
}

// multiplyReal does the same in the real server's database, row by row.
func multiplyReal(t *testing.T, dir string, runs int) {
	t.Helper()
	ctx := t.Context()
	db, err := sql.Open("sqlite", filepath.Join(dir, "data", "sqlite.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, statement := range []string{
		`UPDATE runs SET status='DONE', termination_reason='ALL_JOBS_DONE'`,
		`UPDATE jobs SET status='DONE', termination_reason='DONE_BY_RUNNER', exit_status=0`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < runs; i++ {
		name, runID := fmt.Sprintf("bench-%d", i), hexID()
		at := time.Now().UTC().Add(time.Duration(i) * time.Millisecond).Format("2006-01-02 15:04:05.000000")
		copyRow(ctx, t, tx, "runs", map[string]any{"id": runID, "run_name": name, "submitted_at": at})
		copyRow(ctx, t, tx, "jobs", map[string]any{"id": hexID(), "run_id": runID, "run_name": name, "submitted_at": at})
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func hexID() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

// copyRow copies the first row of a table with other values in some columns.
func copyRow(ctx context.Context, t *testing.T, tx *sql.Tx, table string, values map[string]any) {
	t.Helper()
	rows, err := tx.QueryContext(ctx, `SELECT * FROM `+table+` WHERE run_name = 'bench-0'`) //nolint:unqueryvet // all columns are copied, whatever they are
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	row, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range row {
		into[i] = &row[i]
	}
	if !rows.Next() {
		t.Fatalf("no row in %s: %v", table, rows.Err())
	}
	if err := rows.Scan(into...); err != nil {
		t.Fatal(err)
	}
	for i, column := range columns {
		if at, isTime := row[i].(time.Time); isTime {
			row[i] = at.Format("2006-01-02 15:04:05.000000")
		}
		if value, ok := values[column]; ok {
			row[i] = value
		}
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	marks := strings.TrimSuffix(strings.Repeat("?,", len(columns)), ",")
	if _, err := tx.ExecContext(ctx, `INSERT INTO `+table+` VALUES (`+marks+`)`, row...); err != nil {
		t.Fatal(err)
	}
}

// logOfReal writes the log where the real server's file store has it
// (spec: job-execution.md, "Store, default").
func logOfReal(t *testing.T, dir, job string) {
	t.Helper()
	path := filepath.Join(dir, "projects", "main", "logs", "bench-0", job, "job.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	now := time.Now().UTC()
	for i := range apiLogLines {
		at := now.Add(time.Duration(i) * time.Millisecond).Format("2006-01-02T15:04:05.000+00:00")
		fmt.Fprintf(&b, `{"timestamp":%q,"log_source":"stdout","message":%q}`+"\n", at, base64.StdEncoding.EncodeToString(logLine(i)))
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func privateKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}
