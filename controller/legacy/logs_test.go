package legacy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/logs"
)

const jobID = "0a7945ef-f062-4cb4-b2dc-9945fe4c3120"

// twoLines is a log as 0.22.5 writes it, whose server was killed at the end.
const twoLines = `{"timestamp":"2026-11-26T05:46:40.123000Z","log_source":"stdout","message":"hello\n"}
{"timestamp":"2026-11-26T05:46:40.123000Z","log_source":"stdout","message":"\u0000grün \ufffd\n"}
{"timestamp":"2026-11-26T05:46:41.12300`

// write makes files of these names and texts.
func write(t *testing.T, dir string, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// oldLogs makes logs of 0.22.5.
func oldLogs(t *testing.T, dir string) {
	t.Helper()
	write(t, dir, map[string]string{
		"projects/main/logs/train/" + jobID + "/job.log":     twoLines,
		"projects/main/logs/train/" + jobID + "/runner.log":  `{"timestamp":"2026-11-26T05:46:40Z","message":"started"}` + "\n",
		"projects/main/logs/.hidden/" + jobID + "/job.log":   twoLines,
		"projects/research/logs/train/" + jobID + "/job.log": "",
		"projects/empty/notes.txt":                           "of somebody",
	})
}

// shown is a log of ours, as one text with the milliseconds of each event.
func shown(t *testing.T, dir string, key logs.Key) string {
	t.Helper()
	s := logs.New(logs.Options{Dir: dir})
	page, err := s.Poll(t.Context(), key, logs.PollOptions{Limit: 100})
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range page.Events {
		b.WriteString(e.At.Format("05.000 ") + string(e.Data))
	}
	return b.String()
}

func TestConvertLogs(t *testing.T) {
	dir := t.TempDir()
	oldLogs(t, dir)
	before := map[string][]string{}
	for _, project := range []string{"main", "research"} {
		before[project] = tree(t, filepath.Join(dir, "projects", project, newLogs))
	}
	if _, err := setLogsAside(dir); err != nil {
		t.Fatal(err)
	}
	// A part of it was done when the process ended.
	write(t, dir, map[string]string{"projects/main/logs/train/" + jobID + ".part/job.log": "half"})
	report, err := ConvertLogs(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := (LogsReport{Logs: 3, BadLines: 1, BadNames: 1}); report != want {
		t.Errorf("report is %+v, want %+v", report, want)
	}
	key := logs.Key{Project: "main", Run: "train", JobID: jobID}
	if got, want := shown(t, dir, key), "40.123 hello\n40.124 \x00grün \ufffd\n"; got != want {
		t.Errorf("the log is %q, want %q", got, want)
	}
	if got := shown(t, dir, key.Diagnostics()); got != "40.000 started" {
		t.Errorf("the agent's log is %q", got)
	}
	for project, want := range before {
		if diff := cmp.Diff(want, tree(t, filepath.Join(dir, "projects", project, KeptLogs))); diff != "" {
			t.Errorf("%s: the old logs are not as they were:\n%s", project, diff)
		}
	}
	if got := tree(t, filepath.Join(dir, "projects", "empty")); !cmp.Equal(got, []string{"/notes.txt of somebody"}) {
		t.Errorf("left %v", got)
	}
	if report, err := ConvertLogs(t.Context(), dir); err != nil || report != (LogsReport{}) {
		t.Errorf("again: %+v, %v", report, err)
	}
}

// tree is each file of a folder with what is in it.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		list = append(list, strings.TrimPrefix(path, dir)+" "+string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestLogsStay: who refuses a database, or can't put ours in its place, leaves
// the logs where they are.
func TestLogsStay(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"wrong key": func(t *testing.T, path string) {
			if _, err := Import(t.Context(), Options{Path: path, Dir: filepath.Dir(path), Sealer: sealer(t), Now: now}); err == nil {
				t.Error("it was taken over")
			}
		},
		"earlier logs": func(t *testing.T, path string) {
			write(t, filepath.Dir(path), map[string]string{"projects/main/" + KeptLogs + "/a": ""})
			_, err := Import(t.Context(), Options{Path: path, Dir: filepath.Dir(path), Sealer: sealer(t, oldKey()), Now: now})
			if !errors.Is(err, ErrKept) || !strings.Contains(err.Error(), "projects/main/"+KeptLogs) {
				t.Errorf("got %v", err)
			}
		},
		"undone": func(t *testing.T, path string) {
			undo, err := setLogsAside(filepath.Dir(path))
			if err := errors.Join(err, undo()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := old(t)
			oldLogs(t, filepath.Dir(path))
			logs := filepath.Join(filepath.Dir(path), "projects", "main", newLogs)
			before, was := tree(t, logs), digest(t, path)
			spoil(t, path)
			if diff := cmp.Diff(before, tree(t, logs)); diff != "" || digest(t, path) != was {
				t.Errorf("it was changed:\n%s", diff)
			}
		})
	}
}

func FuzzLogLine(f *testing.F) {
	for line := range strings.Lines(twoLines) {
		f.Add([]byte(line))
	}
	f.Add([]byte(`{"timestamp":null,"message":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if e, ok := parseLine(line); ok && (e.Data == nil || e.Offset != 0) {
			t.Errorf("%+v", e)
		}
	})
}
