package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"dstack/protocol/hostapi"
)

// ExitUninstalled is the exit code of a shim that is not to be started again.
const ExitUninstalled = 64

const (
	restartAfter = time.Second
	// endLimit is how long a shim gets to end after TERM.
	endLimit = 15 * time.Second
)

// Supervise runs `serve` with args again and again until ctx ends or the shim
// is uninstalled. The executable at path is looked up anew each time, so an
// update takes effect.
func Supervise(ctx context.Context, home, path string, args []string, log zerolog.Logger) error {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("make home: %w", err)
	}
	if err := WritePID(home); err != nil {
		return err
	}
	for {
		code, err := serveOnce(ctx, home, path, args)
		if code == ExitUninstalled {
			return nil
		}
		if ctx.Err() == nil {
			log.Warn().Err(err).Int("code", code).Msg("shim ended, started again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartAfter):
		}
	}
}

func serveOnce(ctx context.Context, home, path string, args []string) (int, error) {
	env, err := readEnv(filepath.Join(home, hostapi.EnvName))
	if err != nil {
		return -1, err
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"serve", "--supervised"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endLimit
	err = cmd.Run()
	if cmd.ProcessState == nil {
		return -1, fmt.Errorf("start shim: %w", err)
	}
	return cmd.ProcessState.ExitCode(), err
}

// readEnv reads lines of KEY="value"; a file that is not there is empty.
func readEnv(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read environment: %w", err)
	}
	return parseEnv(string(data)), nil
}

func parseEnv(text string) []string {
	var env []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if plain, err := strconv.Unquote(value); err == nil {
			value = plain
		}
		env = append(env, name+"="+value)
	}
	return env
}

// Stop ends whoever serves a home, with its supervisor, and takes the lock.
// It returns nil without error if there is no home.
func Stop(ctx context.Context, path string) (*Home, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	end := time.Now().Add(endLimit)
	for {
		h, err := Open(path)
		if !errors.Is(err, ErrLocked) {
			return h, err
		}
		sig := syscall.SIGTERM
		if time.Now().After(end) {
			sig = syscall.SIGKILL
		}
		if err := signalServers(ctx, path, sig); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("stop dstack-shim: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// signalServers signals the process noted in the home and the one that
// answers at its socket.
func signalServers(ctx context.Context, home string, sig syscall.Signal) error {
	pids := map[int]bool{}
	if b, err := os.ReadFile(filepath.Join(home, hostapi.PIDName)); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && isShim(pid) {
			pids[pid] = true
		}
	}
	if pid, err := listenerOf(ctx, home); err == nil && isShim(pid) {
		pids[pid] = true
	}
	for pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal dstack-shim (%d): %w", pid, err)
		}
	}
	return nil
}

// isShim guards against a process id that was used again.
func isShim(pid int) bool {
	if pid <= 1 || pid == os.Getpid() {
		return false
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(string(cmdline), "\x00")
	return len(args) > 1 && (args[1] == "serve" || args[1] == "supervise")
}

func listenerOf(ctx context.Context, home string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := Dial(ctx, home)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("look at shim: %w", err)
	}
	var cred *unix.Ucred
	ctrlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(ctrlErr, err); err != nil {
		return 0, fmt.Errorf("look at shim: %w", err)
	}
	return int(cred.Pid), nil
}
