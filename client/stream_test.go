package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/api"
)

// TestFollowLogsIsWhole cuts the stream after every few bytes: what arrives is
// the log, in order and once, even if the server repeats some of it.
func TestFollowLogsIsWhole(t *testing.T) {
	t.Parallel()
	const log = "the quick brown fox jumps over the lazy dog"
	var opens atomic.Int32
	p := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var req api.FollowLogsRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		n := opens.Add(1)
		start := max(0, int(req.Offset)-2) // repeats two bytes
		end := min(len(log), start+9)
		fmt.Fprintf(w, "\n%s\n", chunk(start, log[start:end], false))
		if end == len(log) {
			fmt.Fprintf(w, "%s\n", chunk(end, "", true))
			return
		}
		if n%2 == 0 {
			_, _ = io.WriteString(w, `{"offset":`) // torn line
		}
	})
	var got strings.Builder
	err := p.FollowLogs(t.Context(), api.FollowLogsRequest{JobSubmissionID: "s"}, func(c api.LogChunk) error {
		got.Write(c.Message)
		return nil
	})
	if err != nil || got.String() != log {
		t.Errorf("got %q, %v after %d connections", got.String(), err, opens.Load())
	}
}

func chunk(offset int, text string, end bool) string {
	return fmt.Sprintf(`{"offset":%d,"timestamp":"2026-01-01T00:00:00Z","message":%q,"end":%v}`,
		offset, base64.StdEncoding.EncodeToString([]byte(text)), end)
}

func TestFollowLogsEndsWithTheCallersError(t *testing.T) {
	t.Parallel()
	p := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, chunk(0, "a", false)) })
	full := errors.New("disk full")
	if err := p.FollowLogs(t.Context(), api.FollowLogsRequest{}, func(api.LogChunk) error { return full }); err != full { //nolint:errorlint // it has to be this very error
		t.Errorf("error %v, want the caller's own", err)
	}
}

func TestWatchRun(t *testing.T) {
	t.Parallel()
	for _, streams := range []bool{true, false} {
		t.Run(fmt.Sprintf("streams %v", streams), func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			p := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if !streams && strings.HasSuffix(r.URL.Path, "/watch") {
					answer(w, 404, `{"detail":"Not Found"}`)
					return
				}
				status := api.RunRunning
				if calls.Add(1) > 1 {
					status = api.RunDone
				}
				body, err := json.Marshal(api.Run{Status: status})
				if err != nil {
					t.Error(err)
				}
				answer(w, 200, string(body)+"\n")
			})
			var seen []api.RunStatus
			err := p.WatchRun(t.Context(), "id", func(run api.Run) error {
				seen = append(seen, run.Status)
				return nil
			})
			if diff := cmp.Diff([]api.RunStatus{api.RunRunning, api.RunDone}, seen); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestStreamRefused(t *testing.T) {
	t.Parallel()
	p := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 400, `{"detail":[{"msg":"no such run","code":"resource_not_exists"}]}`)
	})
	err := p.WatchRun(t.Context(), "id", func(api.Run) error { return nil })
	if !IsNotExist(err) {
		t.Errorf("error %v", err)
	}
}
