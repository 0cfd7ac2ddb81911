package cli

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"golang.org/x/crypto/ssh"

	"dstack/protocol/api"
	"dstack/sshlink/sshtest"
)

// What a job that serves prints: as it comes, and as the server keeps it.
const (
	servedRaw = "\x1b[32mserving\x1b[0m at http://0.0.0.0:8000/x\r\n"
	servedLog = "serving at http://0.0.0.0:8000/x\r\n"
)

// fakeSSH is a host with one job on it: the SSH servers of both, a web server
// on port 8000 of the job, and its log.
type fakeSSH struct {
	t           *testing.T
	key, public string
	signer      ssh.Signer
	host, agent *sshtest.Server
	agentKey    ssh.Signer
	web, log    *httptest.Server
	local       int // what 8000 is mapped to; 0 for any
	logEnd      chan struct{}
	endLog      sync.Once
}

func newFakeSSH(t *testing.T) *fakeSSH {
	t.Helper()
	f := &fakeSSH{t: t, logEnd: make(chan struct{}), local: freePort(t)}
	f.key, f.signer = sshtest.NewKey(t)
	f.public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(f.signer.PublicKey())))
	_, f.agentKey = sshtest.NewKey(t)
	f.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello from the job")
	}))
	f.log = httptest.NewServer(http.HandlerFunc(f.serveLog))
	f.host = sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{f.signer.PublicKey()}})
	f.startAgent("")
	t.Cleanup(func() {
		f.finishLog()
		f.web.Close()
		f.log.Close()
	})
	return f
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (f *fakeSSH) startAgent(addr string) {
	f.agent = sshtest.Start(f.t, sshtest.Options{
		Authorized: []ssh.PublicKey{f.signer.PublicKey()}, HostKeys: []ssh.Signer{f.agentKey}, Addr: addr, Dial: f.dial,
	})
}

func (f *fakeSSH) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	switch addr {
	case "localhost:8000":
		addr = f.web.Listener.Addr().String()
	case "localhost:10999":
		addr = f.log.Listener.Addr().String()
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// serveLog sends the raw log, and its end after finishLog.
func (f *fakeSSH) serveLog(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	if err := conn.Write(r.Context(), websocket.MessageBinary, []byte(servedRaw)); err != nil {
		return
	}
	ctx := conn.CloseRead(r.Context())
	select {
	case <-f.logEnd:
		_ = conn.Close(websocket.StatusNormalClosure, "")
	case <-ctx.Done():
	}
}

func (f *fakeSSH) finishLog() { f.endLog.Do(func() { close(f.logEnd) }) }

// place tells where a run's job is.
func (f *fakeSSH) place(r *fakeRun) {
	job := &r.Jobs[0]
	sub := &job.JobSubmissions[len(job.JobSubmissions)-1]
	host, port := f.host.Host, f.host.Port
	sub.JobProvisioningData.Hostname, sub.JobProvisioningData.SSHPort, sub.JobProvisioningData.Username = &host, &port, "ubuntu"
	sub.JobRuntimeData = &api.JobRuntimeData{NetworkMode: "bridge", Ports: map[string]int{"10022": f.agent.Port}}
	r.RunSpec.SSHKeyPub = &f.public
	job.JobSpec.AppSpecs = []api.AppSpec{{Port: 8000, AppName: "app_0"}}
	if f.local != 0 {
		job.JobSpec.AppSpecs[0].MapToPort = &f.local
	}
}

// url is where port 8000 is reached on this machine.
func (f *fakeSSH) url() string { return "http://127.0.0.1:" + strconv.Itoa(f.local) }

// me is the user, with its key pair if there are jobs that know it.
func (f *fakeServer) me() api.UserWithCreds {
	me := api.UserWithCreds{User: api.User{Username: "admin"}}
	if f.ssh != nil {
		me.SSHPrivateKey, me.SSHPublicKey = &f.ssh.key, &f.ssh.public
	}
	return me
}

// serving starts a run whose job serves, as it is before anybody attaches.
func (f *fakeServer) serving(t *testing.T, name string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applyRun(api.ApplyRunPlanRequest{Plan: api.ApplyRunPlanInput{RunSpec: taskSpec(t, name, "serve")}})
	run := f.find(name)
	for run.move(f) {
	}
}

// ends finishes a run with an exit code.
func (f *fakeServer) ends(name string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	run := f.find(name)
	run.states = []func(*fakeRun){func(r *fakeRun) { finished(r, code) }}
	run.move(f)
}

// again submits a run's job anew, to a new agent.
func (f *fakeServer) again(name string) {
	f.ssh.agent.Close()
	_, f.ssh.agentKey = sshtest.NewKey(f.ssh.t)
	f.ssh.startAgent("")
	f.mu.Lock()
	defer f.mu.Unlock()
	run := f.find(name)
	run.states = []func(*fakeRun){
		func(r *fakeRun) {
			finished(r, 1)
			r.Status, r.StatusMessage = api.RunPending, "retrying"
		},
		func(r *fakeRun) {
			at := *r.Jobs[0].JobSubmissions[0].JobProvisioningData
			r.Jobs[0].JobSubmissions = append(r.Jobs[0].JobSubmissions, api.JobSubmission{
				ID: f.id(), SubmissionNum: 1, SubmittedAt: api.At(fakeStart), Status: api.JobRunning, StatusMessage: "running", JobProvisioningData: &at,
			})
			r.Status, r.StatusMessage = api.RunRunning, "running"
			f.ssh.place(r)
		},
	}
	run.move(f)
}

func finished(r *fakeRun, code int) {
	sub := &r.Jobs[0].JobSubmissions[len(r.Jobs[0].JobSubmissions)-1]
	sub.ExitStatus = &code
	sub.Status, sub.StatusMessage, r.Status, r.StatusMessage = api.JobDone, "exited (0)", api.RunDone, "done"
	if code != 0 {
		sub.Status, sub.StatusMessage, r.Status, r.StatusMessage = api.JobFailed, "exited ("+strconv.Itoa(code)+")", api.RunFailed, "failed"
	}
}
