package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"dstack/controller/logs"
	"dstack/protocol/api"
)

// TestFollowShippedLogs: the beginning of a log, or all of it, is not on the
// disk any more, but where it was shipped to.
func TestFollowShippedLogs(t *testing.T) {
	t.Parallel()
	whole := logs.New(logs.Options{Dir: t.TempDir()})
	disk := logs.New(logs.Options{Dir: t.TempDir(), Remote: whole, Ended: func(context.Context, string) (bool, error) { return true, nil }})
	alone := logs.New(logs.Options{Dir: t.TempDir()})
	stores := map[string]*logs.Store{"shipped": disk, "removed": alone}
	for _, s := range []*logs.Store{whole, disk, alone} {
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	var text strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&text, "%d %s\n", i, strings.Repeat("x", 500))
	}
	began := time.Now()
	fill := func(s *logs.Store, key logs.Key) {
		for offset, n := 0, 0; offset < text.Len(); n++ {
			end := min(offset+1000, text.Len())
			if _, err := s.Append(t.Context(), key, int64(offset), began.Add(time.Duration(n)*time.Second), []byte(text.String()[offset:end])); err != nil {
				t.Fatal(err)
			}
			offset = end
		}
	}
	for name, store := range stores {
		r := newRig(t, func(d *Deps) {
			d.Logs = store
			d.LogURL = func(k logs.Key) string { return "https://logs.example/" + k.Run }
		})
		run, key := r.logged(name, "")
		r.finish(run.ID, api.RunDone)
		fill(whole, key)
		fill(store, key)
		// Jobs have ended where there is a storage; of the other log the last MiB stays.
		if _, err := store.Retain(t.Context(), logs.Limits{Bytes: 1}); err != nil {
			t.Fatal(err)
		}
		kept, err := store.Kept(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		follow := func(more string) (got string, first int64) {
			next := r.open("/api/project/main/logs/follow", fmt.Sprintf(`{"job_submission_id":%q%s}`, key.JobID, more))
			first = -1
			for line := next(); line != nil; line = next() {
				var c api.LogChunk
				if err := json.Unmarshal(line, &c); err != nil {
					t.Fatal(err)
				}
				if first < 0 {
					first = c.Offset
				}
				got += string(c.Message)
				if c.End && c.Offset != int64(text.Len()) {
					t.Errorf("%s: ends at %d of %d", name, c.Offset, text.Len())
				}
			}
			return got, first
		}
		from := int64(0)
		if store == alone {
			from = kept
		} else if kept != logs.Nowhere {
			t.Errorf("kept %d", kept)
		}
		if got, first := follow(""); got != text.String()[from:] || first != from {
			t.Errorf("%s: %d bytes from %d, want %d from %d", name, len(got), first, int64(text.Len())-from, from)
		}
		if got, first := follow(`,"offset":1500000`); got != text.String()[1500000:] || first != 1500000 {
			t.Errorf("%s: %d bytes from %d", name, len(got), first)
		}
		since, err := json.Marshal(api.At(began.Add(1500 * time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		if got, first := follow(`,"since":` + string(since)); got != text.String()[1501000:] || first != 1501000 {
			t.Errorf("%s: since: %d bytes from %d", name, len(got), first)
		}
		page := post[api.JobSubmissionLogs](r, poll, fmt.Sprintf(`{"run_name":"x","job_submission_id":%q,"limit":1}`, key.JobID))
		if page.ExternalURL == nil || *page.ExternalURL != "https://logs.example/"+name {
			t.Errorf("%s: link %v", name, page.ExternalURL)
		}
	}
}
