package legacy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"dstack/controller/logs"
	"dstack/controller/store"
)

// childDir, in the environment, makes a child of the test's program: it takes
// over what is in the folder, as the server does.
const childDir = "LEGACY_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := takeOver(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// takeOver does what the server does at each start.
func takeOver(ctx context.Context, dir string) error {
	path := filepath.Join(dir, "sqlite.db")
	python, err := store.IsPython(ctx, path, path)
	if err != nil {
		return err
	}
	if python {
		s, err := store.NewSealer(oldKey())
		if err != nil {
			return err
		}
		if _, err := Import(ctx, Options{Path: path, Dir: dir, Sealer: s, Now: now}); err != nil {
			return err
		}
	}
	_, err = ConvertLogs(ctx, dir)
	return err
}

// child takes a folder over in a process of its own, which is killed after a
// time, if that is not zero.
func child(t *testing.T, dir string, after time.Duration) (took time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may have ended
		defer timer.Stop()
	}
	if err := cmd.Wait(); err != nil && after == 0 {
		t.Fatal(err)
	}
	return time.Since(start)
}

// TestKill kills servers that take a folder over, at any moment: the old
// database is there, under its own name or the kept one, the next start goes on,
// and in the end all is there once.
func TestKill(t *testing.T) {
	whole := old(t)
	dir := filepath.Dir(whole)
	oldLogs(t, dir)
	before := digest(t, whole)
	before2 := tree(t, filepath.Join(dir, "projects", "main", newLogs))
	copied := func() string {
		to := filepath.Join(t.TempDir(), "server")
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		return to
	}
	took := child(t, copied(), 0)
	ended := map[string]int{}
	for range 8 {
		dir := copied()
		path, kept := filepath.Join(dir, "sqlite.db"), filepath.Join(dir, KeptName)
		for range 3 {
			child(t, dir, 1+rand.N(took))
			if digest(t, path) == before {
				ended["before"]++
			} else if ended["after"]++; digest(t, kept) != before {
				t.Fatal("the old database is lost")
			}
		}
		child(t, dir, 0)
		if digest(t, kept) != before {
			t.Error("the old database was changed")
		}
		if diff := cmp.Diff(before2, tree(t, filepath.Join(dir, "projects", "main", KeptLogs))); diff != "" {
			t.Errorf("the old logs were changed:\n%s", diff)
		}
		key := logs.Key{Project: "main", Run: "train", JobID: jobID}
		if got, want := shown(t, dir, key), "40.123 hello\n40.124 \x00grün \ufffd\n"; got != want {
			t.Errorf("the log is %q, want %q", got, want)
		}
		checkWhole(t, path)
	}
	t.Logf("killed %v", ended)
}

// checkWhole looks whether a database has all rows of the old one.
func checkWhole(t *testing.T, path string) {
	t.Helper()
	made, err := store.Open(t.Context(), store.Options{Path: path, Sealer: sealer(t, oldKey())})
	if err != nil {
		t.Fatal(err)
	}
	err = made.Read(t.Context(), func(tx *store.Tx) error {
		main, err := tx.ProjectByName("main")
		if err != nil {
			return err
		}
		checkAccounts(t, tx, main)
		checkSecrets(t, tx, main)
		checkFleet(t, tx, main)
		checkVolumes(t, tx, main)
		checkRuns(t, tx, main)
		return nil
	})
	if err := errors.Join(err, made.Close()); err != nil {
		t.Error(err)
	}
	if got := files(t, path); !cmp.Equal(got, []string{"projects", KeptName, "sqlite.db", "sqlite.db.lock"}) {
		t.Errorf("left %v", got)
	}
}
