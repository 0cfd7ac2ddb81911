package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"dstack/cli/tunnel"
	"dstack/protocol/api"
	"dstack/sshlink"
)

// reachFlags choose a job of a run and how to log in there: attach, exec, cp
// and port-forward share them.
type reachFlags struct {
	identity string
	replica  int // -1 for any running one
	job      int
	// viaServer wants the way through the server.
	viaServer bool
}

func (f *reachFlags) define(set *pflag.FlagSet) {
	set.StringVar(&f.identity, "ssh-identity", "", "The private SSH key that the run was submitted with, if not your own")
	metavar(set, "ssh-identity", "SSH_PRIVATE_KEY")
	set.IntVar(&f.replica, "replica", anyReplica, "The replica of the job, default any that runs")
	set.IntVar(&f.job, "job", 0, "The number of the job in its replica")
	set.BoolVar(&f.viaServer, "via-server", false, "Connect through the server at once, without a try to reach the host itself")
}

const anyReplica = -1

// reach is how a job can be reached.
type reach struct {
	run   api.Run
	job   api.Job
	route []tunnel.Hop
	key   loginKey
	// jumpKeys are the key files that the user's ssh has for a foreign hop.
	jumpKeys []string
	// relay is the way through the server; viaServer wants no other.
	relay     *relayWay
	viaServer bool
	// user is whom to log in as in the job; empty means root, if that is possible.
	user string
}

// alias is the name of the job for the user's ssh.
func (r *reach) alias() string { return r.route[len(r.route)-1].Alias }

// submission is what runs.
func (r *reach) submission() api.JobSubmission {
	return r.job.JobSubmissions[len(r.job.JobSubmissions)-1]
}

// here says whether the job is a process on this machine's network. It may be
// asked once the way through the hosts was gone.
func (r *reach) here() bool {
	rt := r.submission().JobRuntimeData
	return len(r.route) == 1 && isLoopback(r.route[0].Host) && rt != nil && rt.NetworkMode == "host"
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// reach finds out how to reach a job of a run.
func (a *App) reach(ctx context.Context, s *session, run api.Run, f reachFlags) (*reach, error) {
	var replica *int
	if f.replica != anyReplica {
		replica = &f.replica
	}
	job, err := tunnel.Choose(run, replica, f.job)
	if err != nil {
		return nil, sentence("%v of run %s", err, runName(run))
	}
	r := &reach{
		run: run, job: job, viaServer: f.viaServer,
		relay: &relayWay{s, runName(run), job.JobSpec.ReplicaNum, job.JobSpec.JobNum},
	}
	if r.route, err = tunnel.Route(runName(run), job); err != nil {
		return nil, err //nolint:wrapcheck // a sentence for the user
	}
	if r.key, err = a.runKey(ctx, s, f.identity, run.RunSpec.SSHKeyPub); err != nil {
		return nil, err
	}
	for _, hop := range r.route {
		if hop.Foreign {
			r.jumpKeys = a.configuredKeys(ctx, hop.Host)
		}
	}
	return r, nil
}

// openTunnel connects to a job. notify is told what happens to the
// connection later on.
func (a *App) openTunnel(ctx context.Context, r *reach, notify func(tunnel.Notice)) (*tunnel.Tunnel, error) {
	last := r.route[len(r.route)-1]
	cfg := tunnel.Config{Keys: []string{r.key.private}, Users: r.logins(), Notify: notify}
	if r.proxied() && !r.viaServer {
		keys, err := a.knownHostKeys(last)
		if err != nil {
			return nil, err
		}
		cfg.HostKeys = keys
	}
	cfg.Ways = a.ways(r)
	t, err := tunnel.Open(ctx, cfg)
	if err != nil {
		return nil, unreachable(r, err)
	}
	return t, nil
}

// directWay is the way through the job's hosts.
func (a *App) directWay(r *reach) *tunnel.Direct {
	var hops []sshlink.Endpoint
	for _, hop := range r.route[:len(r.route)-1] {
		e := sshlink.Endpoint{Host: hop.Host, Port: hop.Port, User: hop.Login(), Keys: []string{r.key.private}}
		if hop.Foreign {
			e.Keys, e.Signers = a.ownKeys(r.jumpKeys)
		}
		hops = append(hops, e)
	}
	return tunnel.NewDirect(hops, r.route[len(r.route)-1].Addr())
}

// unreachable says in the user's words why a job could not be reached.
func unreachable(r *reach, err error) error {
	if fault := relayFault(r, err); fault != nil {
		return fault
	}
	e, ok := errors.AsType[*sshlink.Error](err)
	if !ok {
		return fmt.Errorf("Can't connect to the remote host: %w", err) //nolint:staticcheck // the text of 0.22.5
	}
	switch {
	case e.Kind == sshlink.AuthFailed && e.Jump:
		return sentence("Can't connect to the remote host: %s refuses to log in %s with the SSH key %s", e.Host, e.User, r.key.path)
	case e.Kind == sshlink.AuthFailed:
		return sentence("Can't connect to the remote host: the job refuses to log in %s with the SSH key %s.\n"+
			"If the run was submitted with another key, pass it with --ssh-identity.", e.User, r.key.path)
	}
	return fmt.Errorf("Can't connect to the remote host: %w", e) //nolint:staticcheck // the text of 0.22.5
}

// ownKeys are the keys with which the user's ssh opens a host that dstack has
// no key for: those that its configuration names, those of the ssh-agent, and
// ssh's defaults.
func (a *App) ownKeys(configured []string) (keys []string, signers []ssh.Signer) {
	files := slices.Clone(configured)
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		files = append(files, filepath.Join(a.env.Home, ".ssh", name))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if _, err := ssh.ParsePrivateKey(text); err == nil { // others are for the agent
			keys = append(keys, string(text))
		}
	}
	signers, err := agentSigners(a.env.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		a.log.logger.Warn().Err(err).Msg("ssh-agent not asked")
	}
	return keys, signers
}

// sshKeys are the files in ~/.ssh that ssh takes where none is configured.
var sshKeys = []string{"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"} //nolint:gochecknoglobals // a table

// configuredKeys are the files that ~/.ssh/config names for a host, as ssh
// itself understands it; none without ssh.
func (a *App) configuredKeys(ctx context.Context, host string) []string {
	config := filepath.Join(a.env.Home, ".ssh", "config")
	if _, err := os.Stat(config); err != nil || strings.HasPrefix(host, "-") {
		return nil
	}
	out, err := exec.CommandContext(ctx, "ssh", "-F", config, "-G", host).Output()
	if err != nil {
		return nil
	}
	var files []string
	for line := range strings.Lines(string(out)) {
		file, ok := strings.CutPrefix(strings.TrimSpace(line), "identityfile ")
		if below, home := strings.CutPrefix(file, "~/.ssh/"); ok && file != "none" && (!home || !slices.Contains(sshKeys, below)) {
			files = append(files, expandHome(file, a.env.Home))
		}
	}
	return files
}

// knownHostKeys are the keys that the user's ssh knows of a host whose key is
// checked.
func (a *App) knownHostKeys(hop tunnel.Hop) ([]string, error) {
	var files []string
	for _, file := range []string{filepath.Join(a.env.Home, ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"} {
		if _, err := os.Stat(file); err == nil {
			files = append(files, file)
		}
	}
	check, err := knownhosts.New(files...)
	if err != nil {
		return nil, fmt.Errorf("read the host keys that ssh knows: %w", err)
	}
	unknown := sentence("The host key of %s is not known. Check and accept it once with: ssh -p %d %s@%s", hop.Host, hop.Port, hop.User, hop.Host)
	known, ok := errors.AsType[*knownhosts.KeyError](check(hop.Addr(), &net.TCPAddr{}, noKey{}))
	if !ok || len(known.Want) == 0 {
		return nil, unknown
	}
	keys := make([]string, len(known.Want))
	for i, want := range known.Want {
		keys[i] = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(want.Key)))
	}
	return keys, nil
}

// noKey is no host's key: a check of it names those that are known.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
