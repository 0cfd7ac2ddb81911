package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
	"dstack/shim"
	"dstack/shim/host"
	"dstack/shim/identity"
	"dstack/shim/notices"
)

// hostKey replaces the SSH host key of a rented machine; that of another host
// is its owner's.
func hostKey(o options, home *host.Home, run identity.Command) shim.HostKey {
	if o.cloud == "" {
		return nil
	}
	return &identity.Key{
		Path: identity.HostKeyPath, Next: home.File("host-key"), Run: run,
		Reload: identity.Reloader(run, "/run/sshd.pid", hangup),
	}
}

// watchNotices asks AWS about the end of a spot machine; other clouds say
// nothing that we know of.
func watchNotices(o options, log zerolog.Logger) func(context.Context, func(hostapi.Notice)) error {
	if o.cloud != "aws" || !o.spot {
		return nil
	}
	w := &notices.Watcher{
		Base: env(notices.EndpointVariable, notices.DefaultBase), Every: notices.Every, Now: time.Now, Log: log,
		// No proxy: the metadata address means this machine.
		HTTP: &http.Client{Transport: &http.Transport{MaxIdleConns: 1}},
	}
	return w.Run
}

// hangup makes a daemon read its files anew.
func hangup(pid string) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return fmt.Errorf("process id of SSH server: %w", err)
	}
	if err := syscall.Kill(n, syscall.SIGHUP); err != nil {
		return fmt.Errorf("signal SSH server: %w", err)
	}
	return nil
}
