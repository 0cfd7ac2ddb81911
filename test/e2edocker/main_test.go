//go:build e2e

// Package e2edocker builds the server's image on a fresh Docker Engine and uses
// it as docs/docker.md says. The engine is that of a lab machine; another one
// is the host of its jobs.
package e2edocker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"dstack/test/lab"
)

const (
	// image is what `make images` calls it.
	image = "dstack-server"
	// folder is where the engine's machine has what the image is built of.
	folder = "/root/dstack"
	// offline leaves the engine's machine nothing but the lab.
	offline = "ip route del default"
	online  = "ip route add default via " + lab.Gateway
)

// shared is what all tests of this package use.
var shared struct {
	lab *lab.Lab
	// engine has the server's image, the others run jobs.
	engine *lab.Machine
	hosts  [2]*lab.Machine
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if shared.lab, err = lab.Open(ctx); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, shared.lab.Close()) }()
	if shared.engine, err = shared.lab.NewMachine(ctx, lab.MachineOptions{}); err != nil {
		return 1, err
	}
	var g errgroup.Group
	g.Go(func() error { return prepare(ctx) })
	g.Go(func() error { return bootHosts(ctx) })
	if err := g.Wait(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func bootHosts(ctx context.Context) (err error) {
	for i := range shared.hosts {
		if shared.hosts[i], err = shared.lab.NewMachine(ctx, lab.MachineOptions{Images: []string{lab.Busybox}}); err != nil {
			return err
		}
	}
	return nil
}

// prepare builds the image with `make images`, without BuildKit, and gives the
// engine's machine the command line and what the image is made of.
func prepare(ctx context.Context) error {
	names := []string{"Dockerfile.server", ".dockerignore", "bin/dstack-linux-" + runtime.GOARCH, "bin/dstack-image.tar"}
	if err := shared.engine.Copy(ctx, root(), folder, names...); err != nil {
		return fmt.Errorf("copy what the image is made of (make e2e-docker): %w", err)
	}
	if _, err := shared.engine.Exec(ctx, offline+" && cp "+folder+"/bin/dstack-linux-"+runtime.GOARCH+" /usr/local/bin/dstack"); err != nil {
		return err
	}
	socket, err := shared.engine.Path(ctx, "/run/docker.sock")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "make", "-C", root(), "images", "ARCHS="+runtime.GOARCH, "DOCKER=docker -H unix://"+socket)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make images: %w\n%s", err, out)
	}
	_, err = shared.engine.Exec(ctx, online)
	return err
}

// root is the folder of the repository.
func root() string { return filepath.Dir(filepath.Dir(lab.Binary("dstack"))) }

// build is the command that builds the image with BuildKit.
func build(options, name string) string {
	return "cd " + folder + " && DOCKER_BUILDKIT=1 docker build -q -f Dockerfile.server " + options + " -t " + name + " ."
}

// sh runs a command as root on the engine's machine, with root's home.
func sh(t *testing.T, command string) string {
	t.Helper()
	out, err := shared.engine.Exec(t.Context(), "export HOME=/root COLUMNS=140; cd; "+command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// serve starts a container with these options of `docker run`, and removes it
// at the end of the test.
func serve(t *testing.T, name, options string) {
	t.Helper()
	sh(t, "docker run -d --name "+name+" "+options)
	t.Cleanup(func() { after(t, "docker logs "+name+" 2>&1; docker rm -f "+name) })
}

// after runs a command at the end of a test, which shows what it prints if it
// failed.
func after(t *testing.T, command string) {
	t.Helper()
	out, err := shared.engine.Exec(context.WithoutCancel(t.Context()), command)
	if err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Log(out)
	}
}

// write writes a configuration into root's home on the engine's machine.
func write(t *testing.T, name, text string) {
	t.Helper()
	sh(t, "cat >~/"+name+".dstack.yml <<'end'\n"+text+"end")
}

// healthOf is a command that prints "=healthy" once the container is.
func healthOf(container string) string {
	return "docker inspect -f '={{.State.Health.Status}}' " + container
}

// await repeats a command on the engine's machine until it prints want, for a
// minute at most.
func await(t *testing.T, command, want string) string {
	t.Helper()
	var out string
	err := lab.Wait(t.Context(), time.Minute, want, func(ctx context.Context) (err error) {
		out, err = shared.engine.Exec(ctx, "export HOME=/root COLUMNS=140; cd; "+command)
		if err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("%s prints %q", command, out)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
