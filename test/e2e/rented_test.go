//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/protocol/hostapi"
	"dstack/test/lab"
)

// metadata puts the addresses of a cloud's services on a machine: one that
// gives credentials away, and the DNS server's.
const metadata = `for a in 254 253; do
	ip addr add 169.254.169.$a/32 dev lo
	mkdir -p /srv/$a && echo "answer of $a" >/srv/$a/index.html
	busybox httpd -p 169.254.169.$a:80 -h /srv/$a
done`

// notices is AWS's metadata service as far as a shim asks, on this machine.
type notices struct {
	at   string
	text atomic.Pointer[string]
}

func serveNotices(t *testing.T) *notices {
	t.Helper()
	host, _, err := net.SplitHostPort(lab.Registry)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	n := &notices{at: "http://" + l.Addr().String()}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := n.text.Load()
		switch {
		case r.Method == http.MethodPut:
			fmt.Fprint(w, "token")
		case text != nil && strings.HasSuffix(r.URL.Path, "/spot/instance-action"):
			fmt.Fprint(w, *text)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	go func() { _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	return n
}

// rentedFleet makes a fleet of one machine that takes itself for a spot machine
// of aws.
func rentedFleet(t *testing.T, s *lab.Server, m *lab.Machine, n *notices) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fleet.dstack.yml")
	text := fmt.Sprintf("type: fleet\nname: rented\nblocks: 2\nenv:\n  %s: aws\n  %s: \"true\"\n  AWS_EC2_METADATA_SERVICE_ENDPOINT: %s\n"+
		"ssh_config:\n  user: ubuntu\n  identity_file: %s\n  hosts: [%s]\n", hostapi.EnvCloud, hostapi.EnvSpot, n.at, m.Key, m.IP)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if result, err := s.CLI(t.Context(), t.TempDir(), "apply", "-f", file, "-y"); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
}

// TestRentedMachine wants of a machine of a cloud that jobs do not reach its
// metadata service, that they hear of its end, and that it gets a host key of
// its own.
func TestRentedMachine(t *testing.T) {
	m, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	s, n := lab.ServerFor(t, nil), serveNotices(t)
	if _, err := m.Exec(t.Context(), metadata); err != nil {
		t.Fatal(err)
	}
	rentedFleet(t, s, m, n)
	// The first takes one block, and so a bridge; the others the whole host, and
	// its network.
	reaches(t, s, "bridge", "1", nil, "not 254, answer of 253")
	reaches(t, s, "host", "2", nil, "not 254, answer of 253")
	reaches(t, s, "asked", "2", map[string]string{"DSTACK_INSTANCE_METADATA": "1"}, "answer of 254, answer of 253")
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Exec(t.Context(), metadata); err != nil {
		t.Fatal(err)
	}
	reaches(t, s, "rebooted", "2", nil, "not 254, answer of 253")
	notice(t, s, n)
	newHostKey(t, m)
}

// TestMetadataWithControlGroups2 is for machines of today. Without controllers
// there can be no limits, so the job has the whole host.
func TestMetadataWithControlGroups2(t *testing.T) {
	m, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}, Unified: true})
	if err != nil {
		t.Fatal(err)
	}
	s, n := lab.ServerFor(t, nil), serveNotices(t)
	if _, err := m.Exec(t.Context(), metadata); err != nil {
		t.Fatal(err)
	}
	rentedFleet(t, s, m, n)
	reaches(t, s, "host", "2", nil, "not 254, answer of 253")
	reaches(t, s, "asked", "2", map[string]string{"DSTACK_INSTANCE_METADATA": "1"}, "answer of 254, answer of 253")
}

// reaches runs a job that tries both addresses.
func reaches(t *testing.T, s *lab.Server, name, cpus string, env map[string]string, want string) {
	t.Helper()
	try := func(a string) string {
		return "$(timeout 5 wget -q -O - http://169.254.169." + a + "/ 2>/dev/null || echo not " + a + ")"
	}
	task := map[string]any{
		"image": lab.Busybox, "commands": []string{`echo "` + try("254") + ", " + try("253") + `"`}, "env": env,
		"resources": map[string]any{"cpu": cpus, "memory": "0.1..", "disk": "1GB.."},
		"retry":     true, // a host that boots
	}
	if env == nil {
		task["env"] = map[string]string{}
	}
	if _, err := s.Submit(t.Context(), name, task); err != nil {
		t.Fatal(err)
	}
	run, err := s.Finish(t.Context(), name, 2*time.Minute)
	if err != nil || run.Status != api.RunDone {
		t.Fatalf("%s: %s, %v", name, run.Status, err)
	}
	log, err := s.Logs(t.Context(), run)
	if got := strings.TrimSpace(string(log)); err != nil || !strings.HasSuffix(got, "\n"+want) {
		t.Errorf("%s reaches %q, %v; want %q", name, got, err, want)
	}
}

// notice has the cloud take the machine back while a job runs on it.
func notice(t *testing.T, s *lab.Server, n *notices) {
	t.Helper()
	task := map[string]any{"image": lab.Busybox, "commands": []string{
		"trap 'echo saved at $(date +%s)' TERM; echo ready; while :; do sleep 0.1; done",
	}}
	if _, err := s.Submit(t.Context(), "spot", task); err != nil {
		t.Fatal(err)
	}
	logged := func(run api.Run, text string) string {
		var log []byte
		err := lab.Wait(t.Context(), 30*time.Second, text+" in the log", func(ctx context.Context) (err error) {
			if log, err = s.Logs(ctx, run); err == nil && !bytes.Contains(log, []byte(text)) {
				err = fmt.Errorf("log is %q", log)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(log)
	}
	run, err := s.WaitRun(t.Context(), "spot", time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
	if err != nil {
		t.Fatal(err)
	}
	logged(run, "ready")
	// The stop sequence is to follow two seconds from now.
	end := time.Now().Add(32 * time.Second).UTC().Truncate(time.Second)
	text := `{"action": "terminate", "time": "` + end.Format(time.RFC3339) + `"}`
	n.text.Store(&text)
	given := time.Now()
	_, after, _ := strings.Cut(logged(run, "saved at "), "saved at ")
	var saved int64
	if _, err := fmt.Sscan(after, &saved); err != nil || time.Unix(saved, 0).Sub(given) > 2*time.Second {
		t.Errorf("the job was told at %s, the notice came at %s (%v)", time.Unix(saved, 0), given, err)
	}
	if run, err = s.Finish(t.Context(), "spot", time.Minute); err != nil {
		t.Fatal(err)
	}
	job := run.LatestJobSubmission
	if left := time.Until(end); left < 20*time.Second || left > 31*time.Second {
		t.Errorf("the run ended %s before the end of its machine", left)
	}
	if job.TerminationReason == nil || *job.TerminationReason != string(api.ReasonInterrupted) || job.TerminationReasonMessage == nil ||
		!strings.HasPrefix(*job.TerminationReasonMessage, "The cloud takes the spot machine back at ") || job.ExitStatus == nil || *job.ExitStatus == 0 {
		t.Errorf("ended with %+v", job)
	}
}

// newHostKey asks the shim for another host key as the server does, and looks
// what OpenSSH shows.
func newHostKey(t *testing.T, m *lab.Machine) {
	t.Helper()
	socket, err := m.Path(t.Context(), filepath.Join(hostapi.Home, hostapi.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	call := func(path string, in any, out any) {
		t.Helper()
		body, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Post("http://shim"+path, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
	}
	var key hostapi.HostKey
	call("/v1/host-key", nil, &key)
	call("/v1/host-key/use", key, &struct{}{})
	err = lab.Wait(t.Context(), 10*time.Second, "new host key", func(ctx context.Context) error {
		shown, err := exec.CommandContext(ctx, "ssh-keyscan", "-t", "ed25519", m.IP).Output()
		if err == nil && !strings.Contains(string(shown), key.Public) {
			err = fmt.Errorf("the machine shows %q, not %q", shown, key.Public)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
