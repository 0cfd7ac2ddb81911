package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/crypto/ssh"

	"dstack/protocol/jobapi"
)

func newKey(t *testing.T) (signer ssh.Signer, private string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(pem.EncodeToMemory(block))
}

// withSSH is a job that lets key log in.
func withSSH(t *testing.T, key ssh.Signer, text string) jobapi.Spec {
	t.Helper()
	spec := script(t, text)
	spec.Env = map[string]string{"JOB_VARIABLE": "from job"}
	spec.SSHListen = "127.0.0.1:0"
	spec.AuthorizedKeys = []string{"not a key", string(ssh.MarshalAuthorizedKey(key.PublicKey()))}
	return spec
}

// sshPort is the port that the running agent tells.
func (r *run) sshPort() int {
	r.t.Helper()
	var port int
	r.events(func(e jobapi.Event) bool {
		if e.Status != nil {
			port = e.Status.SSHPort
		}
		return port != 0
	})
	return port
}

func (r *run) login(user string, key ssh.Signer) (*ssh.Client, error) {
	r.t.Helper()
	client, err := ssh.Dial("tcp", "127.0.0.1:"+strconv.Itoa(r.sshPort()), &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, Timeout: limit,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err == nil {
		r.t.Cleanup(func() { _ = client.Close() })
	}
	return client, err
}

func (r *run) loggedIn(user string, key ssh.Signer) *ssh.Client {
	r.t.Helper()
	client, err := r.login(user, key)
	if err != nil {
		r.t.Fatal(err)
	}
	return client
}

func output(t *testing.T, client *ssh.Client, command string) string {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	out, err := session.Output(command)
	if err != nil {
		t.Errorf("%s: %v", command, err)
	}
	return string(out)
}

func TestLogin(t *testing.T) {
	t.Parallel()
	key, _ := newKey(t)
	cluster, private := newKey(t)
	stranger, _ := newKey(t)
	spec := withSSH(t, key, "sleep 1000")
	spec.ClusterKey = private
	r := start(t, config(t), spec)
	for _, signer := range []ssh.Signer{key, cluster} {
		client := r.loggedIn("root", signer)
		if got := output(t, client, "echo $JOB_VARIABLE, $DSTACK_RUN_NAME"); got != "from job, run\n" {
			t.Errorf("environment: %q", got)
		}
	}
	for _, attempt := range []struct {
		user string
		key  ssh.Signer
	}{{"root", stranger}, {"daemon", key}, {"root:daemon", key}} {
		if _, err := r.login(attempt.user, attempt.key); err == nil {
			t.Errorf("%s logged in", attempt.user)
		}
	}
}

// readLog reads /logs_ws through the SSH connection to its end.
func readLog(t *testing.T, client *ssh.Client) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return client.Dial("tcp", "localhost:10999")
	}}
	//nolint:bodyclose // the library says that it need not be closed
	conn, _, err := websocket.Dial(context.Background(), "ws://localhost:10999/logs_ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for {
		_, data, err := conn.Read(context.Background())
		if err == nil {
			all.Write(data)
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusNormalClosure {
			t.Errorf("log ends with %v", err)
		}
		return all.String()
	}
}

// TestLogAfterTheEnd reads the log over SSH although the job has ended when
// the client comes to it.
func TestLogAfterTheEnd(t *testing.T) {
	t.Parallel()
	key, _ := newKey(t)
	r := start(t, config(t), withSSH(t, key, "trap 'echo bye; exit 0' INT; echo hello; while :; do sleep 0.02; done"))
	r.output("hello")
	client := r.loggedIn("root", key)
	r.stop(jobapi.StopRequest{})
	r.ended()
	if got := readLog(t, client); got != "hello\r\n^Cbye\r\n" {
		t.Errorf("log: %q", got)
	}
	r.end()
}

// TestSessionsEndWithTheJob: nothing that was started over SSH outlives it.
func TestSessionsEndWithTheJob(t *testing.T) {
	t.Parallel()
	key, _ := newKey(t)
	r := start(t, config(t), withSSH(t, key, "echo hello; read x"))
	client := r.loggedIn("root", key)
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := session.Start("sleep 1000"); err != nil {
		t.Fatal(err)
	}
	r.output("hello")
	r.stop(jobapi.StopRequest{Kill: true})
	err = session.Wait()
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	if !errors.As(err, &exit) && !errors.As(err, &missing) {
		t.Errorf("session ended with %v after %v", err, time.Since(begin))
	}
	r.end()
}

func TestPortThatIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	key, _ := newKey(t)
	spec := withSSH(t, key, "true")
	spec.SSHListen = l.Addr().String()
	r := start(t, config(t), spec)
	if s := r.end(); s.State != jobapi.Failed || s.Reason != "ports_binding_failed" {
		t.Errorf("%+v", s)
	}
}
