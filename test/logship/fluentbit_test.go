//go:build e2e

package logship

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dstack/test/lab"
	"dstack/test/storages"
)

// entry is a record as a receiver has it.
type entry struct {
	Tag    string            `json:"tag"`
	Record map[string]string `json:"record"`
}

// joined is the text of entries, all of which must be of the run's job. What
// was sent again because its acknowledgement was cut off counts once.
func joined(t *testing.T, entries []entry, run, job string) string {
	t.Helper()
	var text strings.Builder
	last, seen := "", map[string]string{}
	for _, e := range entries {
		if strings.HasSuffix(e.Tag, ".runner") {
			continue // the agent's log
		}
		if want := "dstack.main." + run + "." + job + ".job"; e.Tag != want || e.Record["stream"] != "main/"+run+"/"+job+"/job" {
			t.Errorf("tag %s, want %s: %v", e.Tag, want, e.Record)
		}
		at, message := e.Record["@timestamp"], e.Record["message"]
		if before, again := seen[at]; again && before == message {
			continue
		}
		if at <= last {
			t.Errorf("time %s after %s", at, last)
		}
		last, seen[at] = at, message
		text.WriteString(message)
	}
	return text.String()
}

func address(t *testing.T, p *storages.Proxy) []string {
	t.Helper()
	host, port, err := net.SplitHostPort(p.Address)
	must(t, err)
	return []string{"DSTACK_SERVER_FLUENTBIT_HOST=" + host, "DSTACK_SERVER_FLUENTBIT_PORT=" + port}
}

func TestFluentForward(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "entries")
	script, err := filepath.Abs("fluent/server.js")
	must(t, err)
	p := storages.StartBehind(t, func(port string) *exec.Cmd {
		cmd := exec.Command("node", script, port, file)
		found, err := filepath.Glob(filepath.Join(lab.Home, "fluent-*", "node_modules"))
		if err != nil || len(found) != 1 {
			t.Fatalf("fluent's library (test/ci/storages.sh): %v, %v", found, err)
		}
		cmd.Env = append(os.Environ(), "NODE_PATH="+found[0])
		return cmd
	})
	exercise(t, &place{proxy: p, env: address(t, p), sent: func(t *testing.T, run, job string) string {
		var entries []entry
		text, err := os.ReadFile(file)
		must(t, err)
		for line := range strings.Lines(string(text)) {
			var e entry
			must(t, json.Unmarshal([]byte(line), &e))
			entries = append(entries, e)
		}
		return joined(t, entries, run, job)
	}})
}

func TestFluentHTTP(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var entries []entry
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var records []map[string]string
		if err := json.NewDecoder(r.Body).Decode(&records); err != nil || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "no records", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, record := range records {
			entries = append(entries, entry{strings.TrimPrefix(r.URL.Path, "/"), record})
		}
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(receiver.Close)
	u, err := url.Parse(receiver.URL)
	must(t, err)
	p := storages.NewProxy(t, u.Host)
	exercise(t, &place{proxy: p, env: append(address(t, p), "DSTACK_SERVER_FLUENTBIT_PROTOCOL=http"), sent: func(t *testing.T, run, job string) string {
		mu.Lock()
		defer mu.Unlock()
		return joined(t, entries, run, job)
	}})
}

func TestFluentRefusals(t *testing.T) {
	for variable, want := range map[string]string{
		"DSTACK_SERVER_FLUENTBIT_PROTOCOL=udp": `DSTACK_SERVER_FLUENTBIT_PROTOCOL="udp": allowed are forward and http`,
		"DSTACK_SERVER_FLUENTBIT_PORT=70000":   "DSTACK_SERVER_FLUENTBIT_PORT=70000: allowed are 1 to 65535",
	} {
		if text := refused(t, "DSTACK_SERVER_FLUENTBIT_HOST=127.0.0.1", variable); !strings.Contains(text, want) {
			t.Errorf("%s\nwant %s", text, want)
		}
	}
}
