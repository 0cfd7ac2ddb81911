//go:build e2e

package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// sshScript copies a file of $1 megabytes over loopback with OpenSSH's client,
// in turn from the agent and from OpenSSH's server in the same container, and
// prints "WHAT SERVER MEGABYTES-A-SECOND" for each copy.
const sshScript = `set -eu; MB=%d; ROUNDS=3; cd /tmp; mkdir -p /run/sshd ~/.ssh; chmod 700 ~ ~/.ssh
ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -q -t ed25519 -N '' -f host; cp key.pub ~/.ssh/authorized_keys; chmod 600 ~/.ssh/authorized_keys
/usr/sbin/sshd -f /dev/null -p 2222 -h /tmp/host -o 'Subsystem=sftp internal-sftp' -o PermitRootLogin=yes
printf 'Host *\nUser root\nIdentityFile /tmp/key\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nHost agent sshd\nHostName 127.0.0.1\nHost agent\nPort 10022\nHost sshd\nPort 2222\n' >config
for server in agent sshd; do for try in $(seq 50); do ssh -F config $server true && break || sleep 0.1; done; done; ssh -F config agent true; ssh -F config sshd true
head -c ${MB}M /dev/urandom >big
one() {
	case $2 in
	exec-up) ssh -F config $1 'cat >/dev/null' <big;;
	exec-down) ssh -F config $1 'cat /tmp/big' >/dev/null;;
	scp-up) scp -qF config big $1:/tmp/copy;;
	scp-down) scp -qF config $1:/tmp/big copy;;
	rsync-up) rm -f copy; rsync -We 'ssh -F config' big $1:/tmp/copy;;
	rsync-down) rm -f copy; rsync -We 'ssh -F config' $1:/tmp/big copy;;
	esac
}
for round in $(seq $ROUNDS); do for what in exec-up exec-down scp-up scp-down rsync-up rsync-down; do for server in sshd agent; do
	start=$(date +%%s%%N); one $server $what; end=$(date +%%s%%N)
	echo "$what $server $((MB * 1048576 * 1000 / (end - start)))"
done; done; done`

// TestSSH prints how fast files are copied by the agent's SSH server, beside
// OpenSSH's in the same container: the best of three rounds. SSH_MB sets the
// size of the file.
func TestSSH(t *testing.T) {
	ctx := t.Context()
	size, err := strconv.Atoi(os.Getenv("SSH_MB"))
	if err != nil {
		size = 256
	}
	l := lab.OpenFor(t)
	m, err := l.NewMachine(ctx, lab.MachineOptions{Images: []string{lab.Debian}})
	if err != nil {
		t.Fatal(err)
	}
	// Always a network of its own, where the agent is at port 10022.
	s := lab.ServerFor(t, []string{"DSTACK_SERVER_JOB_NETWORK_MODE=3"})
	if result, err := s.ApplyFleet(ctx, "lab", m); err != nil || result.Exit != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := s.Submit(ctx, "ssh", map[string]any{"image": lab.Debian, "max_duration": "10m", "commands": []string{fmt.Sprintf(sshScript, size)}}); err != nil {
		t.Fatal(err)
	}
	run, err := s.Finish(ctx, "ssh", 15*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	log, err := s.Logs(ctx, run)
	if err != nil || run.Status != api.RunDone {
		t.Fatalf("%s, %v\n%s", run.Status, err, log)
	}
	best := map[[2]string]int{}
	var order []string
	for line := range strings.Lines(string(log)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		speed, err := strconv.Atoi(fields[2])
		if err != nil {
			continue
		}
		key := [2]string{fields[0], fields[1]}
		if _, known := best[key]; !known && fields[1] == "sshd" {
			order = append(order, fields[0])
		}
		best[key] = max(best[key], speed)
	}
	report := fmt.Sprintf("%d MB, MB/s   OpenSSH  agent  ratio\n", size)
	for _, what := range order {
		sshd, agent := best[[2]string{what, "sshd"}], best[[2]string{what, "agent"}]
		report += fmt.Sprintf("%-12s %8d %6d %6.2f\n", what, sshd, agent, float64(agent)/float64(sshd))
	}
	t.Log("\n" + report)
}
