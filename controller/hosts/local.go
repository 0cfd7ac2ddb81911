package hosts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"dstack/protocol/hostapi"
)

// maxSocketPath is the longest path of a unix socket on Linux.
const maxSocketPath = 107

// localLayout has everything below one folder, which needs no root.
func (p *Pool) localLayout() layout {
	dir := p.opt.LocalDir
	return layout{
		shim: filepath.Join(dir, "bin", "dstack-shim"), agentDir: filepath.Join(dir, "lib"),
		unit: filepath.Join(dir, hostapi.Unit), home: dir,
	}
}

// connectLocal leads to the shim of this machine through its unix socket,
// starting it where needed. The shim outlives this process.
func (p *Pool) connectLocal(ctx context.Context, t Target) (*connection, error) {
	l := p.localLayout()
	if err := localProblem(l); err != nil {
		return nil, err
	}
	r := &remote{target: t, layout: l, payload: p.opt.Payload, facts: facts{machine: runtime.GOARCH}}
	for path, sum := range map[string]*string{l.shim: &r.facts.shim, l.agent(): &r.facts.agent, l.env(): &r.facts.env} {
		var err error
		if *sum, err = digest(path); err != nil {
			return nil, deployProblem(t, "look at "+path, err.Error())
		}
	}
	files, err := r.missing()
	if err != nil {
		return nil, err
	}
	want, err := r.payload.find("dstack-shim", runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := putFile(f); err != nil {
			return nil, deployProblem(t, "install "+f.path, err.Error())
		}
	}
	dial := func(ctx context.Context) (*connection, error) { return dialSocket(ctx, l, p.opt.ServerID) }
	if len(files) == 0 {
		if c, err := dial(ctx); err == nil {
			if c.info.Digest == want.Digest {
				return c, nil
			}
			c.link.close()
		}
	}
	if err := runScript(ctx, l.vars(false), startScript); err != nil {
		return nil, deployProblem(t, "start it", err.Error())
	}
	c, err := await(ctx, want.Digest, dial)
	if err != nil && ctx.Err() == nil {
		return nil, deployProblem(t, "dstack-shim does not start (see "+filepath.Join(l.home, hostapi.LogName)+")", err.Error())
	}
	return c, err
}

func localProblem(l layout) error {
	if runtime.GOOS != "linux" || (runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64") {
		return &hostapi.Problem{
			Code: codeWrongArch, Permanent: true,
			Message: fmt.Sprintf("This machine is %s %s, which runs no jobs", runtime.GOOS, runtime.GOARCH),
			Remedy:  "Start the server without --local, and add Linux hosts with an SSH fleet",
		}
	}
	if socket := filepath.Join(l.home, hostapi.SocketName); len(socket) > maxSocketPath {
		return &hostapi.Problem{
			Code: codeDeployFailed, Permanent: true,
			Message: fmt.Sprintf("The path %s is too long for a unix socket", socket),
			Remedy:  "Set DSTACK_SERVER_DIR to a shorter path",
		}
	}
	return nil
}

func dialSocket(ctx context.Context, l layout, server string) (*connection, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(l.home, hostapi.SocketName))
	if err != nil {
		return nil, fmt.Errorf("connect to the shim: %w", err)
	}
	return newConnection(ctx, conn, server)
}

// digest is the SHA-256 of a file in hex; empty if there is none.
func digest(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the folder is the configured one
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open file: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", fmt.Errorf("read file: %w", err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

// putFile replaces a file in one step.
func putFile(f upload) (err error) {
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	in, err := f.open()
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	_, err = io.Copy(out, in)
	mode := os.FileMode(0o600)
	if f.mode == "755" {
		mode = 0o755
	}
	err = errors.Join(err, out.Chmod(mode), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), f.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write file: %w", err), os.Remove(out.Name()))
	}
	return nil
}

// runScript runs a script of ours on this machine, in a session of its own,
// so that what it starts does not end with this process or its terminal.
func runScript(ctx context.Context, vars map[string]string, text string) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-s")
	cmd.Stdin = scriptText(vars, text)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s (%w)", lastLines(stderr.String(), 5), err)
	}
	return nil
}

func (p *Pool) uninstallLocal(ctx context.Context, t Target) error {
	l := p.localLayout()
	if _, err := os.Stat(l.home); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := runScript(ctx, l.vars(false), removeScript); err != nil {
		return deployProblem(t, "remove it", err.Error())
	}
	return nil
}
