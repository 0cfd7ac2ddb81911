package cli

import (
	"context"
	"errors"
	"fmt"

	"dstack/cli/sshconfig"
	"dstack/cli/tunnel"
	"dstack/protocol/api"
)

// attachment is what attaching to a job makes: a tunnel, and entries in the
// files of the user's ssh.
type attachment struct {
	a      *App
	r      *reach
	tunnel *tunnel.Tunnel
	files  *sshconfig.Files // nil if they could not be written
}

// openAttachment connects to a job and makes `ssh RUN` work.
func (a *App) openAttachment(ctx context.Context, s *session, run api.Run, flags reachFlags, notify func(tunnel.Notice)) (*attachment, error) {
	r, err := a.reach(ctx, s, run, flags)
	if err != nil {
		return nil, err
	}
	t, err := a.openTunnel(ctx, r, notify)
	if err != nil {
		return nil, err
	}
	at := &attachment{a: a, r: r, tunnel: t}
	if at.files, err = a.writeSSHFiles(at.sshHosts); err != nil {
		at.warnFiles(err)
	}
	return at, nil
}

func (at *attachment) warnFiles(err error) {
	at.a.warn(fmt.Sprintf("%v. IDE links and `ssh %s` will not work.", err, at.r.alias()))
}

// rerouted makes `ssh RUN` go the way that the tunnel goes now.
func (at *attachment) rerouted() {
	if at.files == nil {
		return
	}
	hosts, err := at.sshHosts()
	if err == nil {
		err = at.files.Add(sshOwner, hosts)
	}
	if err != nil {
		at.warnFiles(err)
	}
}

// sshOwner names what this process writes for ssh.
const sshOwner sshconfig.Owner = "attach"

func (a *App) writeSSHFiles(find func() ([]sshconfig.Host, error)) (*sshconfig.Files, error) {
	hosts, err := find()
	if err != nil {
		return nil, err
	}
	files, err := sshconfig.Open(a.env.Home)
	if err != nil {
		return nil, fmt.Errorf("Couldn't write the files for ssh: %w", err) //nolint:staticcheck // a sentence for the user
	}
	err = files.Add(sshOwner, hosts)
	if _, partly := errors.AsType[*sshconfig.IncludeError](err); partly {
		return files, err //nolint:wrapcheck // a sentence for the user
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("Couldn't write the files for ssh: %w", err), files.Close()) //nolint:staticcheck // a sentence for the user
	}
	return files, nil
}

// sshHosts are the servers on the way that the tunnel goes, for the user's ssh.
func (at *attachment) sshHosts() ([]sshconfig.Host, error) {
	if at.tunnel.Way() != tunnel.Way(at.r.relay) {
		return sshHosts(at.r), nil
	}
	host, err := at.a.relayHost(at.r)
	if err != nil {
		return nil, fmt.Errorf("Couldn't write the files for ssh: %w", err) //nolint:staticcheck // a sentence for the user
	}
	return []sshconfig.Host{host}, nil
}

// sshHosts are the servers on the way through the hosts.
func sshHosts(r *reach) []sshconfig.Host {
	hosts := make([]sshconfig.Host, len(r.route))
	jump := ""
	for i, hop := range r.route {
		h := sshconfig.Host{
			Alias: hop.Alias, HostName: hop.Host, Port: hop.Port, User: hop.User,
			IdentityFile: r.key.path, ProxyJump: jump, CheckHostKey: hop.Verified,
		}
		if hop.Foreign {
			h.IdentityFile = ""
			if len(r.jumpKeys) > 0 {
				h.IdentityFile = r.jumpKeys[0]
			}
		}
		hosts[i], jump = h, hop.Alias
	}
	return hosts
}

// close ends the tunnel and takes back what was written.
func (at *attachment) close() {
	if at.files != nil {
		if err := at.files.Close(); err != nil {
			at.a.warn(err.Error())
		}
	}
	if err := at.tunnel.Close(); err != nil {
		at.a.warn(err.Error())
	}
}
