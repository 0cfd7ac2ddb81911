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

const (
	// page is the config.yml that the page of the image shows.
	page = `projects: [{name: main, backends: [{type: aws, creds: {type: access_key, access_key: AKIDEXAMPLE, secret_key: none}}]}]`
	// start is the command of the page. What it prints goes to a file.
	start = "setsid docker run -p 3000:3000 -v $HOME/.dstack/server/:/root/.dstack/server " + image + " >>/tmp/page.log 2>&1 </dev/null &"
	// running prints the page's container.
	running = "docker ps -q --filter publish=3000"
)

// TestPage does what the page of the image says, word for word, and then runs a
// job through that server, which is stopped and started again meanwhile. There
// is no AWS here, so its backend is a warning.
func TestPage(t *testing.T) {
	t.Parallel()
	host := shared.hosts[0]
	sh(t, "mkdir -p ~/.dstack/server && echo '"+page+"' >~/.dstack/server/config.yml")
	t.Cleanup(func() { after(t, "cat /tmp/page.log; docker rm -f $("+running+")") })
	sh(t, start)
	const words = "The admin user token is '"
	ready := "The dstack server " + version.Version + " is running at http://0.0.0.0:3000"
	log := await(t, "cat /tmp/page.log", ready)
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
	if err := shared.engine.Copy(t.Context(), filepath.Dir(host.Key), "/root", filepath.Base(host.Key)); err != nil {
		t.Fatal(err)
	}
	write(t, "fleet", fmt.Sprintf("type: fleet\nname: hosts\nssh_config:\n  user: ubuntu\n  hosts: [{hostname: %s, identity_file: ~/%s}]\n", host.IP, filepath.Base(host.Key)))
	write(t, "task", fmt.Sprintf("type: task\nname: through\nimage: %s\ncommands: [%q]\nresources: {cpu: 1.., memory: 0.1GB.., disk: 1GB..}\n", lab.Busybox, script))
	sh(t, "dstack apply -y -f fleet.dstack.yml && dstack apply -y -d -f task.dstack.yml")
	await(t, "dstack ps", " running ")
	before := jobs(t, host)
	await(t, healthOf("$("+running+")"), "=healthy")
	if got := sh(t, "docker exec $("+running+") dstack server health && docker exec $("+running+") dstack ps"); !strings.HasPrefix(got, "The dstack server at http://127.0.0.1:3000 is running\n") || !strings.Contains(got, "through") {
		t.Errorf("inside the container: %q", got)
	}
	if code := sh(t, "c=$("+running+"); docker stop $c >/dev/null && docker inspect -f '{{.State.ExitCode}}' $c && docker rm $c >/dev/null && : >/tmp/page.log"); code != "0" {
		t.Errorf("the server that was stopped ended with exit code %s", code)
	}
	sh(t, start)
	if log := await(t, "cat /tmp/page.log", ready); !strings.Contains(log, words+token+"'") {
		t.Errorf("the next server has another token:\n%s", log)
	}
	await(t, "dstack ps", " running ")
	if now := jobs(t, host); now != before {
		t.Errorf("after docker stop the host has\n%s\nwant\n%s", now, before)
	}
	await(t, "dstack ps -a", "exited (0)")
	complete(t, sh(t, "dstack logs through")+"\n")
	sh(t, "dstack fleet delete -y hosts && test -s ~/.dstack/server/data/sqlite.db")
	if got := sh(t, "cat ~/.dstack/server/config.yml"); got != page {
		t.Errorf("config.yml became\n%s", got)
	}
}

// TestReplaced replaces the container of a server by a new one on the same
// volume while a job runs, after a kill. The server is not root, its volume is
// new, and nothing else may be written to.
func TestReplaced(t *testing.T) {
	t.Parallel()
	host := shared.hosts[1]
	options := "--user 1234:1234 --read-only --tmpfs /tmp -p 3001:3000 -v data:/root/.dstack/server -e DSTACK_SERVER_ADMIN_TOKEN=" + lab.Token + " " + image
	serve(t, "replaced", options)
	await(t, "docker logs replaced", "is running at")
	server := &lab.Server{URL: "http://" + shared.engine.IP + ":3001", Dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(server.Dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	if result, err := server.CLI(t.Context(), server.Dir, "config", "--project", "main", "--server", server.URL, "--token", lab.Token); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if result, err := server.ApplyFleet(t.Context(), "hosts", host); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := server.Submit(t.Context(), "through", map[string]any{"image": lab.Busybox, "commands": []string{script}}); err != nil {
		t.Fatal(err)
	}
	started := func(r api.Run) bool { return r.Status == api.RunRunning }
	if _, err := server.WaitRun(t.Context(), "through", time.Minute, "start", started); err != nil {
		t.Fatal(err)
	}
	before := jobs(t, host)
	sh(t, "docker kill replaced && docker rm replaced && docker run -d --name replaced "+options)
	if _, err := server.WaitRun(t.Context(), "through", time.Minute, "going on", started); err != nil {
		t.Fatal(err)
	}
	if now := jobs(t, host); now != before {
		t.Errorf("after docker kill the host has\n%s\nwant\n%s", now, before)
	}
	run, err := server.Finish(t.Context(), "through", 2*time.Minute)
	if err != nil || run.Status != api.RunDone || len(run.Jobs) != 1 || len(run.Jobs[0].JobSubmissions) != 1 {
		t.Fatalf("run is %s, %v: %+v", run.Status, err, run.Jobs)
	}
	log, err := server.Logs(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	complete(t, string(log))
	if result, err := server.CLI(t.Context(), server.Dir, "fleet", "delete", "-y", "hosts"); err != nil || result.Exit != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

// lines is how many lines a job prints, two a second.
const lines = 30

// script is what a job does.
var script = fmt.Sprintf("for i in $(seq %d); do echo line $i; sleep 0.5; done", lines)

// complete checks the log of a job, which begins with the greeting of its shell.
func complete(t *testing.T, log string) {
	t.Helper()
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i+1)
	}
	log = strings.ReplaceAll(log, "\r\n", "\n")
	if _, printed, _ := strings.Cut(log, "\nline 1\n"); "line 1\n"+printed != want.String() {
		t.Errorf("the log is\n%q", log)
	}
}

// jobs are the containers of the host and when each was started.
func jobs(t *testing.T, host *lab.Machine) string {
	t.Helper()
	out, err := host.Exec(t.Context(), "docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.State.Status}}' $(docker ps -q)")
	if err != nil {
		t.Fatal(err)
	}
	return out
}
