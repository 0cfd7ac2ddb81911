package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"dstack/durable"
	"dstack/protocol/hostapi"
	"dstack/protocol/version"
	"dstack/shim"
	"dstack/shim/docker"
	"dstack/shim/facts"
	"dstack/shim/gpu"
	"dstack/shim/health"
	"dstack/shim/host"
	"dstack/shim/hostkeys"
	"dstack/shim/journal"
	"dstack/shim/process"
	"dstack/shim/volumes"
)

// passEnv are the variables of the shim that every task gets (see spec).
var passEnv = []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}

// serve runs the daemon and returns its exit code.
func serve(ctx context.Context, o options, log zerolog.Logger) (int, error) {
	home, err := host.Open(o.home)
	if err != nil {
		return 1, err
	}
	defer func() { _ = home.Close() }()
	if !o.supervised {
		if err := host.WritePID(o.home); err != nil {
			return 1, err
		}
	}
	d, err := newDaemon(ctx, o, home, log)
	if err != nil {
		return 1, err
	}
	order, err := d.run(ctx, home)
	if err := errors.Join(err, d.journal.Close()); err != nil {
		return 1, err
	}
	if order.Uninstall {
		return host.ExitUninstalled, removeHome(o)
	}
	return 0, nil
}

// daemon is a shim with what it is made of.
type daemon struct {
	manager *shim.Manager
	journal *journal.Journal
	log     zerolog.Logger
}

func newDaemon(ctx context.Context, o options, home *host.Home, log zerolog.Logger) (*daemon, error) {
	id, err := home.ID()
	if err != nil {
		return nil, err
	}
	boot, err := facts.BootID(os.DirFS("/"))
	if err != nil {
		return nil, fmt.Errorf("identify boot: %w", err)
	}
	digest, err := ownDigest()
	if err != nil {
		return nil, err
	}
	j, id, err := openJournal(home, id, log)
	if err != nil {
		return nil, err
	}
	d := &daemon{journal: j, log: log}
	var manager atomic.Pointer[shim.Manager]
	changed := func() {
		if m := manager.Load(); m != nil {
			m.EngineChanged()
		}
	}
	rt, err := chooseRuntime(ctx, o, home, id, changed, log)
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	command := newTools(commandLimit).run
	d.manager, err = shim.New(ctx, shim.Config{
		Home: o.home, Version: version.Version, Digest: digest, HostID: id, BootID: boot, CPUs: o.cpus,
		Detect:  func(ctx context.Context) (gpu.Found, error) { return gpu.Detect(ctx, os.DirFS("/"), command) },
		Health:  checker(rt.Kind(), command).Check,
		Volumes: volumes.New(volumes.Host(newTools(volumeLimit).run, log)),
		HostKey: hostKey(o, home, command),
		Notices: watchNotices(o, log),
		Log:     log,
	}, rt, j)
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	manager.Store(d.manager)
	return d, nil
}

// checker judges the accelerators of this host.
func checker(kind hostapi.Runtime, run gpu.Command) health.Checker {
	c := health.Checker{
		Root: os.DirFS("/"), Run: run, Log: func() (string, error) { return health.KernelLog("/dev/kmsg") },
	}
	if kind == hostapi.Docker {
		c.Toolkit = health.Toolkit
	}
	return c
}

// openJournal opens the journal. A damaged one is put aside; the installation
// then takes a new name, since its numbers start again.
func openJournal(home *host.Home, id string, log zerolog.Logger) (*journal.Journal, string, error) {
	dir := home.File("journal")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make folder of journal: %w", err)
	}
	j, err := journal.Open(dir)
	if !errors.Is(err, journal.ErrCorrupt) {
		return j, id, err
	}
	log.Error().Err(err).Msg("journal put aside")
	events := filepath.Join(dir, "events.jsonl")
	if err := os.Rename(events, events+".corrupt"); err != nil {
		return nil, "", fmt.Errorf("put journal aside: %w", err)
	}
	if id, err = home.NewID(); err != nil {
		return nil, "", err
	}
	j, err = journal.Open(dir)
	return j, id, err
}

// run serves until ctx ends or a call to shut down came.
func (d *daemon) run(ctx context.Context, home *host.Home) (hostapi.Shutdown, error) {
	l, err := home.Listen()
	if err != nil {
		return hostapi.Shutdown{}, err
	}
	if release, err := hostkeys.Reserve(); err != nil {
		d.log.Debug().Err(err).Msg("port of jump-only keys not reserved") // without root there are no such keys
	} else {
		defer release()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var order atomic.Pointer[hostapi.Shutdown]
	handler := d.manager.Handler(func(s hostapi.Shutdown) {
		order.Store(&s)
		cancel()
	})
	d.log.Info().Str("home", home.Path).Str("version", version.Version).Str("runtime", string(d.manager.Info().Runtime)).Msg("shim started")
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.manager.Run(ctx) })
	g.Go(func() error { return host.Serve(ctx, l, handler) })
	if err := g.Wait(); err != nil {
		return hostapi.Shutdown{}, fmt.Errorf("run shim: %w", err)
	}
	d.log.Info().Msg("shim ends")
	if s := order.Load(); s != nil {
		return *s, nil
	}
	return hostapi.Shutdown{}, nil
}

// runtimeName is the file that keeps which runtime was chosen.
const runtimeName = "runtime"

// chooseRuntime makes the runtime that was asked for. auto is docker where an
// engine answers; once docker was chosen it stays so, since an engine that
// is down must not turn isolated jobs into plain processes.
func chooseRuntime(ctx context.Context, o options, home *host.Home, id string, changed func(), log zerolog.Logger) (shim.Runtime, error) {
	d, err := docker.New(docker.Config{
		HostID: id, Agent: o.agent, PassEnv: passed(), ImagesFile: home.File("images.json"), Log: log, Changed: changed,
		Preparing: func() bool { return facts.Preparing(os.DirFS("/")) }, Hold: o.cloud != "", Guard: guard(o),
	})
	if err != nil {
		return nil, fmt.Errorf("set up runtime: %w", err)
	}
	kind := hostapi.Runtime(o.runtime)
	// Now, so that nobody is told of a missing engine that is there.
	reached := kind != hostapi.Process && d.Connect(ctx)
	if o.runtime == "auto" {
		kind = hostapi.Process
		kept, err := os.ReadFile(home.File(runtimeName))
		if (err == nil && string(kept) == string(hostapi.Docker)) || reached {
			kind = hostapi.Docker
		}
		if err := durable.WriteFile(home.File(runtimeName), []byte(kind), 0o600); err != nil {
			return nil, fmt.Errorf("keep choice of runtime: %w", err)
		}
	}
	switch kind {
	case hostapi.Docker:
		return d, nil
	case hostapi.Process:
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		return process.New(process.Config{
			Home: o.home, Base: processBase(o.home), Agent: o.agent, Shim: self,
			PassEnv: passed(), Root: os.Geteuid() == 0, Log: log,
		}), nil
	}
	return nil, fmt.Errorf("the runtime is auto, docker or process, not %q", o.runtime)
}

// processBase is where tasks with users of their own have their folders: a
// place that these users can reach.
func processBase(home string) string {
	sum := sha256.Sum256([]byte(home))
	return filepath.Join("/var/lib/dstack", hex.EncodeToString(sum[:4]))
}

func passed() []string {
	var pairs []string
	for _, name := range passEnv {
		if v, ok := os.LookupEnv(name); ok {
			pairs = append(pairs, name+"="+v)
		}
	}
	return pairs
}

// ownDigest is the SHA-256 of this binary.
func ownDigest() (digest string, err error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("open own binary: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read own binary: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func printVersion(asJSON bool, out io.Writer) error {
	digest, err := ownDigest()
	if err != nil {
		return err
	}
	if asJSON {
		err = json.NewEncoder(out).Encode(map[string]string{"version": version.Version, "digest": digest})
	} else {
		_, err = fmt.Fprintf(out, "%s %s\n", version.Version, digest)
	}
	if err != nil {
		return fmt.Errorf("print version: %w", err)
	}
	return nil
}

// dial connects stdin and stdout to the shim's socket.
func dial(ctx context.Context, home string, in io.Reader, out io.Writer) error {
	conn, err := host.Dial(ctx, home)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(out, hostapi.Magic); err != nil {
		return fmt.Errorf("write magic: %w", err)
	}
	sent := make(chan error, 1)
	go func() { // ends with the process at the latest: stdin cannot be interrupted
		_, err := io.Copy(conn, in)
		sent <- errors.Join(err, conn.CloseWrite())
	}()
	received := make(chan error, 1)
	go func() { // ends when the connection is closed
		_, err := io.Copy(out, conn)
		received <- err
	}()
	select {
	case err = <-received:
	case err = <-sent:
		if err == nil {
			err = <-received
		}
	case <-ctx.Done():
		return nil
	}
	if err != nil {
		return fmt.Errorf("carry connection: %w", err)
	}
	return nil
}
