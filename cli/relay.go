package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dstack/cli/sshconfig"
	"dstack/cli/tunnel"
	"dstack/client"
	"dstack/sshlink"
)

// relayWay is the way to a job through the server, for hosts that this machine
// does not reach.
type relayWay struct {
	session      *session
	run          string
	replica, job int
}

// errNoRelay is what a server says that knows no relay, such as 0.22.5.
var errNoRelay = errors.New("the server can't connect to jobs for others")

// relayError says why the server leads to no job.
type relayError struct{ err error }

func (e *relayError) Error() string { return e.err.Error() }
func (e *relayError) Unwrap() error { return e.err }

// Dial opens one connection. Failures are of type *[sshlink.Error] with a
// *relayError inside; one that stays as it is has the kind Forbidden.
func (w *relayWay) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := w.session.Relay(ctx, w.run, w.replica, w.job)
	if err == nil {
		return conn, nil
	}
	kind := sshlink.Unreachable
	e, refused := errors.AsType[*client.APIError](err)
	switch {
	case client.IsUnsupported(err):
		kind, err = sshlink.Forbidden, errNoRelay
	case refused && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden || client.IsNotExist(err)):
		kind = sshlink.Forbidden
	}
	return nil, &sshlink.Error{Kind: kind, Host: w.String(), Err: &relayError{err}}
}

func (*relayWay) String() string { return "the dstack server" }

// ways are those to a job: through its hosts, and through the server when they
// can't be reached or the user wants it so.
func (a *App) ways(r *reach) []tunnel.Way {
	switch {
	case r.viaServer:
		return []tunnel.Way{r.relay}
	case r.proxied(): // by a service that stands where users reach it
		return []tunnel.Way{a.directWay(r)}
	}
	return []tunnel.Way{a.directWay(r), r.relay}
}

// proxied says that users reach the job through a service of the server's,
// whose host key is known.
func (r *reach) proxied() bool { return r.route[len(r.route)-1].Verified }

// logins are the users that a tunnel logs in as at the job, in order.
func (r *reach) logins() []string {
	last := r.route[len(r.route)-1]
	switch {
	case r.proxied() && !r.viaServer && r.user == r.login():
		return []string{last.User}
	case r.proxied() && !r.viaServer:
		return []string{last.Login()}
	case r.user != "":
		return []string{r.user}
	}
	users := []string{"root"}
	if own := r.login(); own != "root" {
		users = append(users, own) // an agent that is not root knows only itself
	}
	return users
}

// login is the user that the job runs as.
func (r *reach) login() string { return tunnel.Login(r.job.JobSpec, r.submission().JobRuntimeData) }

// relayHost is the job for the user's ssh where the server leads there.
func (a *App) relayHost(r *reach) (sshconfig.Host, error) {
	program, err := os.Executable()
	if err != nil {
		return sshconfig.Host{}, fmt.Errorf("find this program: %w", err)
	}
	return sshconfig.Host{
		Alias: r.alias(), HostName: "localhost", Port: agentPort, User: r.login(), IdentityFile: r.key.path,
		ProxyCommand: proxyCommand(
			program, "ssh-relay", "--project", r.relay.session.project,
			"--replica", strconv.Itoa(r.relay.replica), "--job", strconv.Itoa(r.relay.job), r.relay.run),
	}, nil
}

// agentPort is the SSH port of a job in its container.
const agentPort = 10022

// relayFault says why a job can't be reached, if the way through the server
// was tried, too.
func relayFault(r *reach, err error) error {
	relayed, ok := errors.AsType[*relayError](err)
	if !ok {
		return nil
	}
	direct, _ := errors.AsType[*sshlink.Error](err)
	if r.viaServer || direct == nil || errors.Is(direct, relayed) {
		return sentence("Can't connect to the job through the server: %v", relayed)
	}
	if errors.Is(relayed, errNoRelay) {
		return nil
	}
	return sentence("Can't connect to the remote host: %v\nThe way through the server fails, too: %v", direct, relayed)
}

// proxyCommand is a command line for ssh, which replaces %-signs of its own and
// hands the rest to a shell.
func proxyCommand(words ...string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`")
	if runtime.GOOS == "windows" { // where these are no part of a path
		escape = strings.NewReplacer()
	}
	quoted := make([]string, len(words))
	for i, word := range words {
		if strings.ContainsAny(word, " \t\"'\\$`!&|;<>()*?[]#~=%^{}") {
			word = `"` + escape.Replace(word) + `"`
		}
		quoted[i] = strings.ReplaceAll(word, "%", "%%")
	}
	return strings.Join(quoted, " ")
}

// sshRelayCommand is what the user's own ssh calls where the server leads to a
// job: it connects standard input and output with the job's SSH server.
func (a *App) sshRelayCommand() *cobra.Command {
	var project string
	var replica, job int
	cmd := &cobra.Command{
		Use: "ssh-relay run_name", Short: "Connect an SSH client to a job through the server (for ProxyCommand)",
		Hidden: true, Args: names(1, 1, "run_name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect(project)
			if err != nil {
				return err
			}
			conn, err := (&relayWay{s, args[0], replica, job}).Dial(cmd.Context())
			if err != nil {
				return err
			}
			return a.join(cmd.Context(), conn)
		},
	}
	a.projectFlag(cmd, &project)
	cmd.Flags().IntVar(&replica, "replica", 0, "The replica of the job")
	cmd.Flags().IntVar(&job, "job", 0, "The number of the job in its replica")
	return cmd
}

// join copies between standard input and output and a connection until one of
// them ends. A read of standard input that waits is left behind: the process
// ends.
func (a *App) join(ctx context.Context, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	go func() {
		_, _ = io.Copy(conn, a.In)
		_ = conn.Close() // ssh is gone
	}()
	_, err := io.Copy(a.Out, conn)
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	_ = conn.Close() // nothing is said any more
	if err != nil {
		return fmt.Errorf("connection to the job: %w", err)
	}
	return nil
}
