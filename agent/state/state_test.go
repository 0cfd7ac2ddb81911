package state_test

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/agent/state"
	"dstack/protocol/jobapi"
)

func TestKeeper(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := state.New(dir)
	if _, err := state.Load(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load before anything was set: %v", err)
	}
	if err := k.Reserve(); err != nil {
		t.Fatal(err)
	}
	three := 3
	for _, want := range []jobapi.Status{
		{State: jobapi.Running, Username: "ml"},
		{State: jobapi.Failed, Reason: "r", Message: "m", ExitStatus: &three},
	} {
		_, changed := k.Get()
		if err := k.Set(want); err != nil {
			t.Fatal(err)
		}
		<-changed
		got, err := state.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("on disk (-want +got):\n%s", diff)
		}
		if got, _ := k.Get(); got != want {
			t.Errorf("in memory %+v", got)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

func TestEverybodyHearsOfItOnABrokenDisk(t *testing.T) {
	t.Parallel()
	k := state.New("/no/such/folder")
	_, changed := k.Get()
	if err := k.Set(jobapi.Status{State: jobapi.Done}); err == nil {
		t.Error("no error")
	}
	<-changed
}
