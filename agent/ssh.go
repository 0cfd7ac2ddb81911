package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"dstack/agent/account"
	"dstack/agent/jobenv"
	"dstack/agent/sftpserver"
	"dstack/agent/sshd"
	"dstack/protocol/jobapi"
)

const (
	// logsPort is where clients expect /logs_ws inside of the container.
	logsPort = 10999
	// attaching is how long after its login a client comes for the log.
	attaching = 2 * time.Second
)

// startSSH lets users log in from now on until the agent ends.
func (j *job) startSSH(h host, s *setup) *jobapi.Status {
	if j.spec.SSHListen == "" {
		return nil
	}
	listeners, err := j.listenSSH()
	if err != nil {
		status := failed(reasonPorts, "Failed to start the SSH server (%v)", err)
		return &status
	}
	keys, err := hostKeys()
	if err != nil {
		status := failed(reasonExecutor, "Failed to start the SSH server (%v)", err)
		return &status
	}
	if err := h.writeHostKeys(j.spec, keys); err != nil {
		j.logger.Warn().Err(err).Msg("ssh host keys not written")
	}
	server := sshd.New(sshd.Config{
		HostKeys: keys, Keys: j.authorizedKeys(), Account: (&logins{host: h, spec: j.spec, job: s}).account,
		Own:    map[uint32]func(net.Conn){logsPort: j.control.Visit},
		SFTP:   []string{"/proc/self/exe", sftpserver.Command},
		Reaper: j.reaper, Connected: j.config.Connected, Log: j.logger,
	})
	j.ssh.Store(server)
	if tcp, ok := listeners[0].Addr().(*net.TCPAddr); ok {
		j.sshPort = tcp.Port
	}
	j.background(func(ctx context.Context) error {
		if err := server.Run(ctx, listeners...); err != nil {
			j.logger.Error().Err(err).Msg("ssh server failed")
		}
		return nil
	})
	return nil
}

func (j *job) listenSSH() ([]net.Listener, error) {
	var listeners []net.Listener
	for _, address := range []string{j.spec.SSHListen, j.spec.ClusterListen} {
		if address == "" {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// authorizedKeys are the keys that may log in as anybody. A key that cannot
// be read opens nothing.
func (j *job) authorizedKeys() []ssh.PublicKey {
	var keys []ssh.PublicKey
	for _, line := range j.spec.AuthorizedKeys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			j.logger.Warn().Err(err).Msg("authorized key not usable")
			continue
		}
		keys = append(keys, key)
	}
	if j.spec.ClusterKey == "" {
		return keys
	}
	signer, err := ssh.ParsePrivateKey([]byte(j.spec.ClusterKey))
	if err != nil {
		j.logger.Warn().Err(err).Msg("cluster key not usable")
		return keys
	}
	return append(keys, signer.PublicKey())
}

// idle says for how long nobody has been logged in.
func (j *job) idle(now time.Time) (time.Duration, bool) {
	server := j.ssh.Load()
	if server == nil {
		return 0, false
	}
	return server.Idle(now), true
}

// expected is for how long a client that has just logged in is waited for.
func (j *job) expected() time.Duration {
	server := j.ssh.Load()
	if server == nil {
		return 0
	}
	return server.Settled(time.Now(), attaching)
}

// hostKeys makes the keys by which clients know the server again.
func hostKeys() ([]ssh.Signer, error) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	nist, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	var out []ssh.Signer
	for _, key := range []any{edwards, nist} {
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			return nil, fmt.Errorf("make host key: %w", err)
		}
		out = append(out, signer)
	}
	return out, nil
}

// writeHostKeys leaves the public keys where users can compare them.
func (h host) writeHostKeys(spec *jobapi.Spec, keys []ssh.Signer) error {
	dir := filepath.Join(h.dir, "ssh")
	if spec.Isolated {
		dir = h.path("dstack/ssh")
	}
	if err := makeDir(dir, nil); err != nil {
		return err
	}
	var text strings.Builder
	for _, key := range keys {
		text.Write(ssh.MarshalAuthorizedKey(key.PublicKey()))
	}
	return os.WriteFile(filepath.Join(dir, "host_keys.pub"), []byte(text.String()), 0o644)
}

// logins finds who may log in under which name.
type logins struct {
	host host
	spec *jobapi.Spec
	job  *setup
}

// account finds the user of a login name: any user of a container, but only
// the job's where we can become no other. There root is another name for it,
// for clients log in as root to forward ports.
func (l *logins) account(name string) (sshd.Account, error) {
	own := sshd.Account{
		User: l.job.user, Credential: l.job.command.Credential, Env: l.job.command.Env, Dir: l.job.command.Dir,
	}
	if strings.Contains(name, ":") {
		return sshd.Account{}, fmt.Errorf("%q names no user", name)
	}
	if !l.spec.Isolated || !l.host.canSwitch {
		if name != "root" && name != own.Name && name != strconv.FormatUint(uint64(own.UID), 10) {
			return sshd.Account{}, fmt.Errorf("only %s may log in here, not %q", own.Name, name)
		}
		return own, nil
	}
	user, err := account.Resolve(name, l.host.read("etc/passwd"), l.host.read("etc/group"))
	if err != nil {
		return sshd.Account{}, err
	}
	if user.UID == own.UID {
		return own, nil
	}
	other := sshd.Account{User: user, Env: own.Env, Dir: own.Dir}
	if user.UID != 0 {
		// The job's environment holds secrets: its user's and root's affair.
		bare := *l.spec
		bare.Env = nil
		other.Env = jobenv.Build(os.Environ(), &bare, l.job.places)
	}
	if int(user.UID) != os.Geteuid() {
		other.Credential = credential(user, l.spec)
	}
	return other, nil
}
