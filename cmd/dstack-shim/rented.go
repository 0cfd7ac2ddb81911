package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
	"dstack/shim"
	"dstack/shim/docker"
	"dstack/shim/host"
	"dstack/shim/identity"
	"dstack/shim/metadata"
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
		Server: &identity.OpenSSH{Run: run, Address: "127.0.0.1", Port: "22", PIDFile: "/run/sshd.pid", Hangup: hangup},
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

// guard keeps jobs away from the metadata service of a rented machine.
func guard(o options) docker.Guard {
	if o.cloud == "" {
		return nil
	}
	return &metadata.Guard{
		Groups: "/sys/fs/cgroup", Mounts: "/proc/self/mounts", Inet6: "/proc/net/if_inet6", Run: runWithInput,
		Probe: func(ctx context.Context, group, address string) error {
			_, err := runWithInput(ctx, "", "/proc/self/exe", "reach", group, address)
			return err
		},
	}
}

// filterLimit bounds a program that changes the packet filter.
const filterLimit = 10 * time.Second

func runWithInput(ctx context.Context, input, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, filterLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(name), err, bytes.TrimSpace(out))
	}
	return out, nil
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
