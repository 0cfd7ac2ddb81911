//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// jumper is who has a key of a job, and wants more of its host.
type jumper struct {
	t       *testing.T
	machine *lab.Machine
	key     string // path of the private key
}

// newKey makes a key pair and returns the private key's path and the public key.
func newKey(t *testing.T) (path, public string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return path, string(text)
}

// program runs an OpenSSH program with the key against ubuntu on the host; a
// program that goes on has got what it wanted, and is cut after 5 seconds.
func (j *jumper) program(program string, args ...string) (output string, exit int) {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(j.t.Context(), 5*time.Second)
	defer cancel()
	options := []string{
		"-F", "none", "-i", j.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
	}
	cmd := exec.CommandContext(ctx, program, append(options, args...)...)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=", "DISPLAY=:9")
	cmd.Stdin = strings.NewReader("echo REACHED-$(id -un)\n")
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var failed *exec.ExitError
	if ctx.Err() != nil {
		return out.String(), 0
	}
	if err != nil && !errors.As(err, &failed) {
		j.t.Error(err)
		return "", 0
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func (j *jumper) login() string { return "ubuntu@" + j.machine.IP }

// connect logs in without a program in between.
func (j *jumper) connect() (*ssh.Client, error) {
	text, err := os.ReadFile(j.key)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	return ssh.Dial("tcp", net.JoinHostPort(j.machine.IP, "22"), &ssh.ClientConfig{
		User: "ubuntu", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Timeout:         10 * time.Second,
	})
}

// reaches says whether the key opens a port of the host, behind which there is
// an SSH server.
func (j *jumper) reaches(port int) bool {
	j.t.Helper()
	client, err := j.connect()
	if err != nil {
		return false
	}
	defer client.Close()
	conn, err := client.Dial("tcp", net.JoinHostPort("localhost", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	greeting := make([]byte, 8)
	n, _ := conn.Read(greeting)
	return string(greeting[:n]) == "SSH-2.0-"
}

// submitKey submits a task with a public key, and waits until it runs and its
// SSH port is known.
func submitKey(t *testing.T, name, public, cpus string) int {
	t.Helper()
	spec := map[string]any{"run_name": name, "ssh_key_pub": public, "configuration": map[string]any{
		"type": "task", "name": name, "image": lab.Busybox, "commands": []string{"sleep 600"}, "fleets": []string{"jump"},
		"resources": map[string]any{"cpu": cpus, "memory": "0.1..", "disk": "1GB..", "shm_size": "32MB"},
	}}
	plan := map[string]any{"force": false, "plan": map[string]any{"run_spec": spec, "current_resource": nil}}
	if err := shared.server.Call(t.Context(), "project/main/runs/apply", plan, nil); err != nil {
		t.Fatal(err)
	}
	run, err := shared.server.WaitRun(t.Context(), name, time.Minute, "SSH port", func(r api.Run) bool {
		return r.Status == api.RunRunning && r.LatestJobSubmission.JobRuntimeData.Ports["10022"] != 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return run.LatestJobSubmission.JobRuntimeData.Ports["10022"]
}

func stopRun(t *testing.T, name string) {
	t.Helper()
	if result, err := shared.server.CLI(t.Context(), t.TempDir(), "stop", "-x", "-y", name); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := shared.server.Finish(t.Context(), name, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// TestJumpKey tries everything that SSH can do with the key of a job that
// shares its host with others: it leads to the ports of its own jobs and to
// nothing else, and is gone with them.
func TestJumpKey(t *testing.T) {
	machine, err := shared.lab.NewMachine(t.Context(), lab.MachineOptions{Images: []string{lab.Busybox}})
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("type: fleet\nname: jump\nblocks: 4\nenv:\n  DSTACK_SHIM_CPUS: '8'\nssh_config:\n  user: ubuntu\n  hosts: [{hostname: %s, identity_file: %s, blocks: 4}]\n", machine.IP, machine.Key)
	file := filepath.Join(t.TempDir(), "fleet.dstack.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if result, err := shared.server.CLI(t.Context(), t.TempDir(), "apply", "-f", file, "-y"); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	// Otherwise any key may make new unix sockets: the one thing that OpenSSH
	// has no option of a key against.
	if _, err := machine.Exec(t.Context(), "echo AllowStreamLocalForwarding local >/etc/ssh/sshd_config.d/unix.conf; systemctl reload ssh"); err != nil {
		t.Fatal(err)
	}
	key, public := newKey(t)
	_, others := newKey(t)
	j := &jumper{t, machine, key}
	first, second := submitKey(t, "jump-1", public, "1.."), submitKey(t, "jump-2", public, "1..")
	foreign := submitKey(t, "jump-3", others, "1..")

	if !j.reaches(first) || !j.reaches(second) {
		t.Errorf("own jobs: %t, %t", j.reaches(first), j.reaches(second))
	}
	j.programs(foreign)
	j.channels(foreign)

	stopRun(t, "jump-1")
	if j.reaches(first) || !j.reaches(second) {
		t.Errorf("after the first job: %t, %t", j.reaches(first), j.reaches(second))
	}
	stopRun(t, "jump-2")
	if _, err := j.connect(); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("after the last job the key still logs in: %v", err)
	}
	stopRun(t, "jump-3")

	submitKey(t, "whole", public, "8..")
	if out, exit := j.program("ssh", j.login(), "id -un"); exit != 0 || out != "ubuntu\n" {
		t.Errorf("who has the whole host: exit %d, %s", exit, out)
	}
	stopRun(t, "whole")
	if out, exit := j.program("ssh", j.login(), "id -un"); exit == 0 {
		t.Errorf("after the job on the whole host: %s", out)
	}
	if left, err := machine.Exec(t.Context(), "grep -c dstack-shim /home/ubuntu/.ssh/authorized_keys; true"); err != nil || left != "0" {
		t.Errorf("keys of jobs that are left: %s, %v", left, err)
	}
}

// programs tries the key with the system's OpenSSH.
func (j *jumper) programs(foreign int) {
	j.t.Helper()
	const say = "echo REACHED-$(id -un)"
	forbidden := []string{"-N", "-o", "ExitOnForwardFailure=yes"}
	local := filepath.Join(j.t.TempDir(), "up")
	if err := os.WriteFile(local, []byte("x"), 0o600); err != nil {
		j.t.Fatal(err)
	}
	var g errgroup.Group
	g.SetLimit(8) // sshd drops who comes in crowds
	for name, args := range map[string][]string{
		"exec":                 {"ssh", j.login(), say},
		"sudo":                 {"ssh", j.login(), "sudo -n " + say},
		"shell":                {"ssh", j.login()},
		"shell on a terminal":  {"ssh", "-tt", j.login()},
		"local command":        {"ssh", "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=true", j.login(), say},
		"environment":          {"ssh", "-o", "SetEnv=LANG=$(" + say + ")", j.login(), say},
		"agent":                {"ssh", "-A", j.login(), say},
		"X11":                  {"ssh", "-Y", j.login(), say},
		"sftp":                 {"ssh", "-s", j.login(), "sftp"},
		"sftp, the program":    {"sftp", j.login() + ":/etc/hostname", local},
		"scp from":             {"scp", j.login() + ":/etc/hostname", local},
		"scp to":               {"scp", local, j.login() + ":/tmp/up"},
		"scp, the old one":     {"scp", "-O", local, j.login() + ":/tmp/up"},
		"-R, any port":         append(append([]string{"ssh"}, forbidden...), "-R", "0:localhost:22", j.login()),
		"-R, a port":           append(append([]string{"ssh"}, forbidden...), "-R", "localhost:18022:localhost:22", j.login()),
		"-R, to the world":     append(append([]string{"ssh"}, forbidden...), "-R", "*:18022:localhost:22", j.login()),
		"-R, the port allowed": append(append([]string{"ssh"}, forbidden...), "-R", "localhost:1:localhost:22", j.login()),
		"-R, SOCKS":            append(append([]string{"ssh"}, forbidden...), "-R", "18022", j.login()),
		"-R, unix socket":      append(append([]string{"ssh"}, forbidden...), "-R", "/tmp/up.sock:localhost:22", j.login()),
		"tun device":           append(append([]string{"ssh"}, forbidden...), "-w", "0:0", j.login()),
		"-W sshd":              {"ssh", "-W", "localhost:22", j.login()},
		"-W by address":        {"ssh", "-W", "127.0.0.1:22", j.login()},
		"-W to another job":    {"ssh", "-W", fmt.Sprint("localhost:", foreign), j.login()},
		"-W to the network":    {"ssh", "-W", shared.machines[0].IP + ":22", j.login()},
	} {
		g.Go(func() error {
			if out, exit := j.program(args[0], args[1:]...); exit == 0 || strings.Contains(out, "REACHED") || strings.Contains(out, "SSH-2.0") {
				j.t.Errorf("%s: exit %d, %q", name, exit, out)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		j.t.Fatal(err)
	}
	if left, err := j.machine.Exec(j.t.Context(), "ls /tmp/up /tmp/up.sock 2>/dev/null; true"); err != nil || left != "" {
		j.t.Errorf("made on the host: %q, %v", left, err)
	}
}

// channels asks for what no program of OpenSSH asks for in this way.
func (j *jumper) channels(foreign int) {
	j.t.Helper()
	client, err := j.connect()
	if err != nil {
		j.t.Fatal(err)
	}
	defer client.Close()
	for _, addr := range []string{"localhost:22", "[::1]:22", fmt.Sprint("127.0.0.1:", foreign), fmt.Sprint(j.machine.IP, ":22"), "172.30.99.1:5000"} {
		if conn, err := client.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			j.t.Errorf("reached %s", addr)
		}
	}
	for _, socket := range []string{"/var/run/docker.sock", "/root/.dstack/shim.sock", "/run/dbus/system_bus_socket"} {
		if conn, err := client.Dial("unix", socket); err == nil {
			_ = conn.Close()
			j.t.Errorf("reached %s", socket)
		}
	}
	for _, network := range []string{"tcp", "unix"} {
		addr := map[string]string{"tcp": "127.0.0.1:0", "unix": "/tmp/up.sock"}[network]
		if l, err := client.Listen(network, addr); err == nil {
			_ = l.Close()
			j.t.Errorf("listens at %s %s", network, addr)
		}
	}
	session, err := client.NewSession()
	if err != nil {
		return // refused as a whole
	}
	defer session.Close()
	if err := session.RequestPty("xterm", 24, 80, nil); err == nil {
		j.t.Error("got a terminal")
	}
	if ok, err := session.SendRequest("auth-agent-req@openssh.com", true, nil); err == nil && ok {
		j.t.Error("got its agent forwarded")
	}
	if out, err := session.CombinedOutput("echo REACHED"); err == nil || bytes.Contains(out, []byte("REACHED")) {
		j.t.Errorf("ran a command: %s, %v", out, err)
	}
}
