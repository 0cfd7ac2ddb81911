package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"dstack/durable"
	"dstack/protocol/hostapi"
)

// claimFor is how long a host without tasks stays with a server that is gone.
const claimFor = 5 * time.Minute

// movedFor is how long a host stays with a server that is gone if another one
// comes that has a copy of its database. It knows the tasks, so they stay; but
// the first one may be about to come back.
const movedFor = time.Minute

// claim is which server the host belongs to: the one that opened a stream
// last. To a second server the first one's tasks would be orphans, and it
// would remove them.
type claim struct {
	path string

	mu      sync.Mutex
	server  string
	streams int       // that are open
	seen    time.Time // when the last stream ended
	loaded  time.Time // when this shim began: until then a stream may have been open
}

// loadClaim reads what an earlier shim kept.
func loadClaim(path string) (*claim, error) {
	c := &claim{path: path, loaded: time.Now()}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read whose host this is: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read whose host this is: %w", err)
	}
	c.server, c.seen = strings.TrimSpace(string(text)), info.ModTime()
	return c, nil
}

// against is why a server may not use the host that has this many tasks, empty
// if it may. A caller without a name is a person at the host.
func (c *claim) against(server string, tasks int, now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held(server, tasks, now)
}

func (c *claim) held(server string, tasks int, now time.Time) string {
	if c.server == "" || server == "" || server == c.server {
		return ""
	}
	if sameDatabase(server, c.server) {
		return c.heldByCopy(now)
	}
	const other = "the host belongs to another dstack server, which "
	switch {
	case c.streams > 0:
		return other + "is connected now"
	case tasks > 0:
		return fmt.Sprintf(other+"has jobs here (%d) and was connected until %s", tasks, c.seen.UTC().Format(time.DateTime+" MST"))
	case now.Sub(c.seen) < claimFor:
		return other + "was connected until " + c.seen.UTC().Format(time.DateTime+" MST")
	}
	return ""
}

// sameDatabase says that one of the servers has a copy of the other's database.
func sameDatabase(a, b string) bool {
	a, _, _ = strings.Cut(a, hostapi.PlaceMark)
	b, _, _ = strings.Cut(b, hostapi.PlaceMark)
	return a == b
}

func (c *claim) heldByCopy(now time.Time) string {
	const other = "the host belongs to a dstack server of whose database this one has another copy, and which "
	seen := c.seen
	if c.loaded.After(seen) {
		seen = c.loaded
	}
	switch {
	case c.streams > 0:
		return other + "is connected now"
	case now.Sub(seen) < movedFor:
		return other + "was connected until " + seen.UTC().Format(time.DateTime+" MST")
	}
	return ""
}

// enter gives the host to a server that opens a stream, or says why not.
// leave must be called when the stream has ended.
func (c *claim) enter(server string, tasks int, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if why := c.held(server, tasks, now); why != "" {
		return fault(hostapi.CodeClaimed, "%s", why)
	}
	if server != "" && server != c.server {
		if err := durable.WriteFile(c.path, []byte(server+"\n"), 0o600); err != nil {
			return fmt.Errorf("keep whose host this is: %w", err)
		}
		c.server = server
	}
	c.streams++
	return nil
}

func (c *claim) leave(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams--
	c.seen = now
}
