//go:build e2e

package e2edocker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/protocol/version"
	"dstack/test/lab"
)

// page is the config.yml that the page of the image shows.
const page = `projects: [{name: main, backends: [{type: aws, creds: {type: access_key, access_key: AKIDEXAMPLE, secret_key: none}}]}]`

// TestPage does what the page of the image says, word for word. There is no
// AWS here, so its backend is a warning.
func TestPage(t *testing.T) {
	sh(t, "mkdir -p ~/.dstack/server && echo '"+page+"' >~/.dstack/server/config.yml")
	serve(t, "page", "-p 3000:3000 -v $HOME/.dstack/server/:/root/.dstack/server "+image)
	const words = "The admin user token is '"
	log := await(t, 2*time.Minute, "docker logs page", "The dstack server "+version.Version+" is running at http://0.0.0.0:3000")
	for _, want := range []string{"The dstack server is running at http://0.0.0.0:3000", words, "The admin token is "} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	_, token, _ := strings.Cut(log, words)
	token, _, _ = strings.Cut(token, "'")
	sh(t, "dstack config --project main --server http://0.0.0.0:3000 --token "+token)
	if got := sh(t, "cat ~/.dstack/config.yml"); !strings.Contains(got, "url: http://0.0.0.0:3000") || !strings.Contains(got, token) {
		t.Errorf("~/.dstack/config.yml is\n%s", got)
	}
	if got := sh(t, "dstack ps"); !strings.Contains(got, "NAME") {
		t.Errorf("dstack ps prints %q", got)
	}
	if got := sh(t, "docker exec page dstack server health"); got != "The dstack server at http://127.0.0.1:3000 is running" {
		t.Errorf("the health check says %q", got)
	}
	await(t, time.Minute, healthOf("page"), "=healthy")
	sh(t, "test -s ~/.dstack/server/data/sqlite.db")
	if got := sh(t, "cat ~/.dstack/server/config.yml"); got != page {
		t.Errorf("config.yml became\n%s", got)
	}
}

// lines is how many lines the job of TestReplaced prints, two a second.
const lines = 40

// TestReplaced replaces the container of a server by a new one on the same
// volume while a job runs: once after a stop, once after a kill. The server is
// not root, and its volume is new.
func TestReplaced(t *testing.T) {
	options := "--user 1234:1234 -p 3001:3000 -v data:/root/.dstack/server -e DSTACK_SERVER_ADMIN_TOKEN=" + lab.Token + " " + image
	serve(t, "replaced", options)
	await(t, time.Minute, "docker logs replaced", "is running at")
	server := &lab.Server{URL: "http://" + shared.engine.IP + ":3001", Dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(server.Dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	if result, err := server.CLI(t.Context(), server.Dir, "config", "--project", "main", "--server", server.URL, "--token", lab.Token); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if result, err := server.ApplyFleet(t.Context(), "hosts", shared.host); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := server.Submit(t.Context(), "through", map[string]any{
		"image": lab.Busybox, "commands": []string{fmt.Sprintf("for i in $(seq %d); do echo line $i; sleep 0.5; done", lines)},
	}); err != nil {
		t.Fatal(err)
	}
	started := func(r api.Run) bool { return r.Status == api.RunRunning }
	if _, err := server.WaitRun(t.Context(), "through", time.Minute, "start", started); err != nil {
		t.Fatal(err)
	}
	before := jobs(t)
	for _, end := range []string{"stop", "kill"} {
		code := sh(t, "docker "+end+" replaced >/dev/null && docker inspect -f '{{.State.ExitCode}}' replaced && docker rm replaced >/dev/null")
		if end == "stop" && code != "0" {
			t.Errorf("the server that was stopped ended with exit code %s", code)
		}
		sh(t, "docker run -d --name replaced "+options)
		if _, err := server.WaitRun(t.Context(), "through", time.Minute, "going on", started); err != nil {
			t.Fatal(err)
		}
		if now := jobs(t); now != before {
			t.Errorf("after docker %s the host has\n%s\nwant\n%s", end, now, before)
		}
	}
	run, err := server.Finish(t.Context(), "through", 2*time.Minute)
	if err != nil || run.Status != api.RunDone || len(run.Jobs) != 1 || len(run.Jobs[0].JobSubmissions) != 1 {
		t.Fatalf("run is %s, %v: %+v", run.Status, err, run.Jobs)
	}
	log, err := server.Logs(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d\r\n", i+1)
	}
	if string(log) != want.String() {
		t.Errorf("the log is\n%q", log)
	}
	if result, err := server.CLI(t.Context(), server.Dir, "fleet", "delete", "-y", "hosts"); err != nil || result.Exit != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

// jobs are the containers of the host and when each was started.
func jobs(t *testing.T) string {
	t.Helper()
	out, err := shared.host.Exec(t.Context(), "docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.State.Status}}' $(docker ps -q)")
	if err != nil {
		t.Fatal(err)
	}
	return out
}
