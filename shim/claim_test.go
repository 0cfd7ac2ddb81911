package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestClaim(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "server")
	now := time.Now()
	c, err := loadClaim(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(server string, tasks int, at time.Time, part string) {
		t.Helper()
		why := c.against(server, tasks, at)
		if (part == "") != (why == "") || !strings.Contains(why, part) {
			t.Errorf("%s with %d tasks: %q, want %q", server, tasks, why, part)
		}
		err := c.enter(server, tasks, at)
		if err == nil {
			c.leave(at)
		}
		if (err != nil) != (part != "") {
			t.Errorf("%s enters: %v, want %q", server, err, part)
		}
	}
	if err := c.enter("a", 0, now); err != nil {
		t.Fatal(err)
	}
	refused("b", 0, now.Add(time.Hour), "is connected now")
	if err := c.enter("a", 0, now); err != nil { // a second stream replaces the first
		t.Fatal(err)
	}
	c.leave(now)
	refused("b", 0, now.Add(time.Hour), "is connected now")
	c.leave(now)
	refused("b", 0, now.Add(claimFor-time.Second), "was connected until")
	refused("", 1, now, "")
	refused("b", 2, now.Add(time.Hour), "has jobs here (2)")

	if c, err = loadClaim(path); err != nil { // the shim was started again
		t.Fatal(err)
	}
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	refused("b", 1, now.Add(time.Hour), "has jobs here (1)")
	refused("a", 1, now.Add(time.Hour), "")
	refused("b", 0, now.Add(2*time.Hour), "")
	refused("a", 0, now.Add(2*time.Hour), "was connected until")
	if text, err := os.ReadFile(path); err != nil || string(text) != "b\n" {
		t.Errorf("kept %q, %v", text, err)
	}
}

// TestClaimOfCopy: two servers with copies of one database never use a host at
// the same time, and the one that is left gets it with its tasks.
func TestClaimOfCopy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "server")
	c, err := loadClaim(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	refused := func(server string, at time.Time, part string) {
		t.Helper()
		why := c.against(server, 3, at)
		if (part == "") != (why == "") || !strings.Contains(why, part) {
			t.Errorf("%s: %q, want %q", server, why, part)
		}
	}
	if err := c.enter("a", 0, now); err != nil {
		t.Fatal(err)
	}
	refused("a/copy", now.Add(time.Hour), "is connected now")
	refused("b/copy", now.Add(time.Hour), "another dstack server, which is connected now")
	c.leave(now)
	refused("a/copy", now.Add(movedFor-time.Second), "was connected until")
	refused("a", now, "")
	refused("a/copy", now.Add(movedFor), "")
	if err := c.enter("a/copy", 3, now.Add(movedFor)); err != nil {
		t.Fatal(err)
	}
	refused("a", now.Add(time.Hour), "is connected now")
	c.leave(now.Add(time.Hour))

	if c, err = loadClaim(path); err != nil { // the shim was started again
		t.Fatal(err)
	}
	long := now.Add(-time.Hour)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
	refused("a", c.loaded.Add(movedFor-time.Second), "was connected until")
	refused("a/copy", c.loaded, "")
	refused("a", c.loaded.Add(movedFor), "")
}
