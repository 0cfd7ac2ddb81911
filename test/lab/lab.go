//go:build e2e

// Package lab runs real hosts on this machine: containers with systemd, sshd,
// sudo and a Docker Engine of their own, which behave like fresh VMs. It needs
// root on Debian and the packages of test/ci/setup.sh; a missing one is an
// error, never a skip. docs/development/labs.md explains the recipe.
package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// Home keeps the lab's engine, so that machine images are built once.
	Home   = "/var/cache/dstack-lab"
	subnet = "172.30.99.0/24"
	// Gateway is this machine, as lab machines see it.
	Gateway = "172.30.99.1"
	// Bridge is the interface behind which lab machines are.
	Bridge  = "dslab0"
	network = "lab"
)

// Registries, as seen from machines: Registry serves anonymous pulls,
// PrivateRegistry wants RegistryUser and RegistryPassword.
const (
	Registry         = Gateway + ":5000"
	PrivateRegistry  = Gateway + ":5001"
	RegistryUser     = "robot"
	RegistryPassword = "right-password"
)

// Lab is a Docker Engine with a network, two registries and machines.
type Lab struct {
	lock       *os.File
	dir        string
	socket     string
	dockerd    *exec.Cmd
	registries []*exec.Cmd
	machines   []*Machine
	image      string
}

// Open starts the lab below Home and builds the machine image when it is
// missing (about two minutes, then cached). One lab runs at a time.
func Open(ctx context.Context) (*Lab, error) {
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		return nil, fmt.Errorf("make lab folder: %w", err)
	}
	l := &Lab{dir: dir, socket: filepath.Join(dir, "docker.sock")}
	for _, step := range []func(context.Context) error{l.takeLock, raiseLimits, l.startEngine, l.makeNetwork, l.makeMachineImage, l.makeJobImages, l.startRegistries} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// Close removes the machines and stops the registries and the engine.
func (l *Lab) Close() error {
	var errs []error
	for _, m := range l.machines {
		errs = append(errs, m.Remove())
	}
	for _, r := range l.registries {
		errs = append(errs, stop(r))
	}
	errs = append(errs, stop(l.dockerd), os.RemoveAll(l.dir))
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}

// takeLock waits until no other lab uses Home.
func (l *Lab) takeLock(ctx context.Context) error {
	if err := os.MkdirAll(Home, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", Home, err)
	}
	file, err := os.OpenFile(filepath.Join(Home, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open lab lock: %w", err)
	}
	l.lock = file
	return Wait(ctx, 10*time.Minute, "another lab to end", func(context.Context) error {
		return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	})
}

// raiseLimits makes room for many machines: each takes eight inotify instances
// of root's 128, and systemd freezes at boot when it gets none.
func raiseLimits(context.Context) error {
	if err := os.WriteFile("/proc/sys/fs/inotify/max_user_instances", []byte("8192"), 0); err != nil {
		return fmt.Errorf("raise the limit of inotify instances: %w", err)
	}
	return nil
}

func stop(cmd *exec.Cmd) error {
	if cmd == nil || cmd.Process == nil {
		return nil
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", cmd.Path, err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("wait for %s: %w", cmd.Path, err)
	}
	return nil
}

// Docker runs the docker client against the lab's engine.
func (l *Lab) Docker(ctx context.Context, args ...string) (string, error) {
	return l.docker(ctx, nil, args...)
}

func (l *Lab) docker(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", "unix://" + l.socket}, args...)...)
	cmd.Stdin = stdin
	return output(cmd)
}

// output runs cmd and returns its standard output; the error holds both streams.
func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s%s", strings.Join(cmd.Args, " "), err, stderr.String(), stdout.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

func (l *Lab) startEngine(ctx context.Context) (err error) {
	log, err := os.Create(filepath.Join(l.dir, "dockerd.log"))
	if err != nil {
		return fmt.Errorf("make engine log: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	l.dockerd = exec.Command("dockerd", "--data-root", filepath.Join(Home, "docker"), "--exec-root", filepath.Join(l.dir, "exec"),
		"--pidfile", filepath.Join(l.dir, "dockerd.pid"), "--host", "unix://"+l.socket, "--bridge", "none",
		"--insecure-registry", Registry, "--insecure-registry", PrivateRegistry)
	l.dockerd.Stdout, l.dockerd.Stderr = log, log
	if err := l.dockerd.Start(); err != nil {
		return fmt.Errorf("start dockerd (apt-get install docker.io): %w", err)
	}
	return Wait(ctx, 60*time.Second, "the lab's Docker Engine", func(ctx context.Context) error {
		_, err := l.Docker(ctx, "version")
		return err
	})
}

func (l *Lab) makeNetwork(ctx context.Context) error {
	// Left-overs of a lab that was killed.
	if ids, err := l.Docker(ctx, "ps", "-aq"); err == nil && ids != "" {
		if _, err := l.Docker(ctx, append([]string{"rm", "-fv"}, strings.Fields(ids)...)...); err != nil {
			return err
		}
	}
	if _, err := l.Docker(ctx, "network", "inspect", network); err == nil {
		return nil
	}
	_, err := l.Docker(ctx, "network", "create", "--subnet", subnet, "-o", "com.docker.network.bridge.name="+Bridge, network)
	return err
}

// machineScript makes the root file system of a machine. The package sources
// of this machine are used, so no address is named here.
const machineScript = `set -eu
root=$1
debootstrap --variant=minbase bookworm "$root" >/dev/null
rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d" "$root/etc/apt/apt.conf.d"
cp -r /etc/apt/apt.conf.d "$root/etc/apt/"
mkdir -p "$root/etc/apt/sources.list.d"
cp /etc/apt/sources.list "$root/etc/apt/" 2>/dev/null || true
cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/" 2>/dev/null || true
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
chroot "$root" sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd systemd-sysv dbus openssh-server sudo docker.io iptables iproute2 procps ca-certificates busybox-static >/dev/null && apt-get clean'
rm -f "$root/usr/sbin/policy-rc.d" "$root"/etc/ssh/ssh_host_*
chroot "$root" useradd -m -s /bin/bash ubuntu
echo 'ubuntu ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/ubuntu"
chroot "$root" useradd -m -s /bin/bash plain
mkdir -p "$root/etc/docker"
printf '{"insecure-registries": ["%s", "%s"]}' "$2" "$3" >"$root/etc/docker/daemon.json"
printf 'MaxStartups 100\nLoginGraceTime 20\n' >"$root/etc/ssh/sshd_config.d/lab.conf"
`

func (l *Lab) makeMachineImage(ctx context.Context) (err error) {
	sum := sha256.Sum256([]byte(machineScript))
	l.image = "lab-machine:" + hex.EncodeToString(sum[:6])
	if _, err := l.Docker(ctx, "image", "inspect", l.image); err == nil {
		return nil
	}
	root, err := os.MkdirTemp(Home, "root")
	if err != nil {
		return fmt.Errorf("make root folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if _, err := output(exec.CommandContext(ctx, "sh", "-c", machineScript, "sh", root, Registry, PrivateRegistry)); err != nil {
		return fmt.Errorf("make machine image: %w", err)
	}
	return l.importFolder(ctx, root, l.image, boot)
}

// boot is what a machine's image runs.
const boot = `CMD ["/sbin/init"]`

// DeriveMachineImage makes an image of a machine as script changes it, which
// gets the root folder as its argument; it is kept until one of the two scripts
// changes.
func (l *Lab) DeriveMachineImage(ctx context.Context, name, script string) (image string, err error) {
	sum := sha256.Sum256([]byte(l.image + script))
	image = name + ":" + hex.EncodeToString(sum[:6])
	if _, err := l.Docker(ctx, "image", "inspect", image); err == nil {
		return image, nil
	}
	root, err := os.MkdirTemp(Home, "root")
	if err != nil {
		return "", fmt.Errorf("make root folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	id, err := l.Docker(ctx, "create", l.image)
	if err != nil {
		return "", err
	}
	defer func() {
		_, removed := l.Docker(ctx, "rm", "-v", id)
		err = errors.Join(err, removed)
	}()
	unpack := "set -o pipefail; docker -H 'unix://" + l.socket + "' export " + id + " | tar -C '" + root + "' -x"
	if _, err := output(exec.CommandContext(ctx, "bash", "-c", unpack)); err != nil {
		return "", fmt.Errorf("unpack the machine image: %w", err)
	}
	if _, err := output(exec.CommandContext(ctx, "sh", "-c", script, "sh", root)); err != nil {
		return "", fmt.Errorf("make image %s: %w", name, err)
	}
	return image, l.importFolder(ctx, root, image, boot)
}

// importFolder makes an image of a folder.
func (l *Lab) importFolder(ctx context.Context, root, image string, changes ...string) error {
	tar := exec.CommandContext(ctx, "tar", "-C", root, "-c", ".")
	pipe, err := tar.StdoutPipe()
	if err != nil {
		return fmt.Errorf("pipe tar: %w", err)
	}
	if err := tar.Start(); err != nil {
		return fmt.Errorf("start tar: %w", err)
	}
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	_, err = l.docker(ctx, pipe, append(args, "-", image)...)
	return errors.Join(err, tar.Wait())
}

// Wait repeats try every 50 ms until it succeeds or limit is over; the error
// then names what was waited for and the last failure.
func Wait(ctx context.Context, limit time.Duration, what string, try func(context.Context) error) error {
	return waitEvery(ctx, 50*time.Millisecond, limit, what, try)
}

func waitEvery(ctx context.Context, every, limit time.Duration, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no %s after %s", what, limit))
	defer cancel()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last error
	for {
		if last = try(ctx); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: last: %w", what, context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}
