package cli

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/protocol/api"
)

func TestPlanCopy(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"a run:b":         "run up a > b",
		"a b c run:":      "run up a b c > ",
		"run:b a":         "run down b > a",
		"run:a run:b ./":  "run down a b > ./",
		"run: .":          "run down  > .",
		"run:/a:b c":      "run down /a:b > c",
		"./a:b run:c":     "run up ./a:b > c",
		"dir/a:b run:c":   "run up dir/a:b > c",
		":a run:c":        "run up :a > c",
		"a b":             "one side must be a job: run_name:path",
		"run:a b c":       "one side must be a job: run_name:path",
		"run:a other:b":   "one side must be this machine: copying from job to job takes two commands",
		"run:a other:b c": "all sources must be of the same run",
		"a run:b run:c":   "one side must be this machine: copying from job to job takes two commands",
	} {
		p, err := planCopy(strings.Split(args, " "))
		direction := "down"
		if p.upload {
			direction = "up"
		}
		got := p.run + " " + direction + " " + strings.Join(p.sources, " ") + " > " + p.target
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
	if _, err := planCopy([]string{"run:a", ""}); err == nil {
		t.Error("an empty target was taken")
	}
}

func TestJobPath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dir, path string
		target    bool
		want      string
	}{
		{"/w", "/a/", false, "/a/"},
		{"/w", "a", false, "/w/a"},
		{"/w", "a/.", false, "/w/a/."},
		{"/w", "", false, "/w/."},
		{"/w", "", true, "/w"},
		{"/w", ".", true, "/w/."},
		{"/w", "~/a", true, "~/a"},
		{"", "a", true, "~/a"},
		{"", "", true, "~"},
		{"/", "a", true, "/a"},
	} {
		if got := jobPath(tt.dir, tt.path, tt.target); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestCp copies with the real SSH server of a job, whose cable is cut
// meanwhile.
func TestCp(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	data := make([]byte, 32<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data)
	here := func(name string) string { return filepath.Join(r.here, name) }
	if err := os.WriteFile(here("big file"), data, 0o640); err != nil {
		t.Fatal(err)
	}
	r.cutLater(nil)
	code, stdout, stderr := r.dstack("cp", here("big file"), "job:")
	if code != 0 || !strings.HasPrefix(stdout, "Copied 1 file, 32.0MB (") || stderr != "" {
		t.Errorf("to the job: %d, %q, %q", code, stdout, stderr)
	}
	r.cutLater(nil)
	code, stdout, stderr = r.dstack("cp", "job:big file", here("back"))
	if code != 0 || !strings.Contains(stdout, "were there already)") || stderr != "" {
		t.Errorf("from the job: %d, %q, %q", code, stdout, stderr)
	}
	if n := r.cutsMade(); n != 2 {
		t.Errorf("%d cuts", n)
	}
	for _, path := range []string{filepath.Join(r.work, "big file"), here("back")} {
		got, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || !bytes.Equal(got, data) || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v %v", path, err, info)
		}
	}
	code, stdout, stderr = r.dstack("cp", "-r", "-q", here("big file"), here("back"), "job:~/made/")
	if code != 0 || stdout != "" || stderr != "" {
		t.Errorf("into a folder: %d, %q, %q", code, stdout, stderr)
	}
	if list, err := os.ReadDir(filepath.Join(r.home, "made")); err != nil || len(list) != 2 {
		t.Errorf("in it: %v %v", list, err)
	}
}

// TestCpFaults has the words for what goes wrong.
func TestCpFaults(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	for args, want := range map[string]string{
		"job:none .":          "job:WORK/none: no such file or folder",
		"/none job:":          "/none: no such file or folder",
		"/etc/passwd job:a/b": "job:WORK/a/b: no such file or folder",
		"a b":                 "dstack cp: error: one side must be a job: run_name:path",
		"none:a .":            "Run none not found",
		"--job 4 job:a .":     "Failed to find replica=<any running> job=4 of run job",
	} {
		code, _, stderr := r.dstack(append([]string{"cp"}, strings.Split(args, " ")...)...)
		got := strings.ReplaceAll(stderr, r.work, "WORK")
		if code == 0 || !strings.HasSuffix(got, want+"\n") {
			t.Errorf("%s: %d, %q, want %q", args, code, got, want)
		}
	}
}

// TestCpJobEnds gives up when the job ends while it can't be reached.
func TestCpJobEnds(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	path := filepath.Join(r.here, "big")
	if err := os.WriteFile(path, make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cutLater(func() {
		_ = r.cable.Close()
		r.ends(api.JobDone, "exited (0)")
	})
	code, _, stderr := r.dstack("cp", path, "job:")
	if code != 1 || stderr != "Run job is not running any more: exited (0)\n" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(r.work, "big.dstack-part")); err != nil {
		t.Errorf("what was copied is not kept: %v", err)
	}
}

// TestCpProgress has a bar on a terminal, and says what Ctrl-C leaves.
func TestCpProgress(t *testing.T) {
	t.Parallel()
	r := newJobRig(t)
	path := filepath.Join(r.here, "big")
	if err := os.WriteFile(path, make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cutLater(func() { _ = r.cable.Close() }) // it stays away
	x := openPTY(t, r.here, r.url, func() {}, "cp", path, "job:")
	x.expect("░")
	x.expect("MB/32.0MB")
	x.expect("The connection was lost. Connecting again...")
	x.send(ctrlC)
	x.expect("Stopped. Give the same command again to go on.")
	x.exits(exitInterrupted)
}

// FuzzPlanCopy finds one run and both sides, or says what is wrong.
func FuzzPlanCopy(f *testing.F) {
	f.Add("a", "run:b")
	f.Add("run:", ".")
	f.Add("./a:b", "::")
	f.Fuzz(func(t *testing.T, source, target string) {
		p, err := planCopy([]string{source, target})
		if err != nil {
			return
		}
		far, near := source, target
		farPath, nearPath := p.sources[0], p.target
		if p.upload {
			far, near, farPath, nearPath = target, source, p.target, p.sources[0]
		}
		if p.run == "" || far != p.run+":"+farPath || near != nearPath {
			t.Errorf("%q %q: %+v", source, target, p)
		}
	})
}
