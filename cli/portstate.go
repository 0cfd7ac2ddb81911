package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"dstack/cli/tunnel"
)

// jobOnServer names a job among those of all servers.
type jobOnServer struct {
	Server  string `json:"server"`
	RunID   string `json:"run_id"`
	Replica int    `json:"replica"`
	Job     int    `json:"job"`
}

// portState is what a process forwards, for others of the same user. It lies
// in ~/.dstack/ssh/forwards/PID.json as long as the process lives.
type portState struct {
	jobOnServer

	Host string `json:"host"`
	// Ports are local ports by those of the job.
	Ports map[int]int `json:"ports"`
}

func (a *App) portStates() string { return filepath.Join(a.env.Home, ".dstack", "ssh", "forwards") }

func (a *App) portStateFile() string {
	return filepath.Join(a.portStates(), strconv.Itoa(os.Getpid())+".json")
}

// forwarded says whether another living process forwards a port of a job.
func (a *App) forwarded(job jobOnServer, host string, want tunnel.Want) bool {
	if job.RunID == "" {
		return false
	}
	entries, err := os.ReadDir(a.portStates())
	if err != nil {
		return false
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(strings.TrimSuffix(entry.Name(), ".json"))
		if err != nil || pid == os.Getpid() || !alive(pid) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(a.portStates(), entry.Name()))
		if err != nil {
			continue
		}
		var state portState
		if json.Unmarshal(text, &state) == nil && state.jobOnServer == job && state.Host == host && state.Ports[want.Remote] == want.Local {
			return true
		}
	}
	return false
}

// keepPortState tells others what this process forwards, and removes what
// killed processes left behind.
func (a *App) keepPortState(job jobOnServer, host string, forwards []tunnel.Forward) error {
	if err := os.MkdirAll(a.portStates(), 0o700); err != nil {
		return fmt.Errorf("make folder for forwarded ports: %w", err)
	}
	entries, err := os.ReadDir(a.portStates())
	if err != nil {
		return fmt.Errorf("look for forwarded ports: %w", err)
	}
	for _, entry := range entries {
		pid, _, _ := strings.Cut(entry.Name(), ".")
		if n, err := strconv.Atoi(pid); err == nil && !alive(n) {
			_ = os.Remove(filepath.Join(a.portStates(), entry.Name())) // another process may have been faster
		}
	}
	state := portState{job, host, map[int]int{}}
	for _, f := range forwards {
		state.Ports[f.Want.Remote] = f.Local
	}
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("keep forwarded ports: %w", err)
	}
	if err := replaceFile(a.portStateFile(), string(text)); err != nil {
		return fmt.Errorf("keep forwarded ports: %w", err)
	}
	return nil
}

func (a *App) dropPortState() error {
	if err := os.Remove(a.portStateFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget forwarded ports: %w", err)
	}
	return nil
}

// alive says whether a process of that number runs.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release() //nolint:errcheck // nothing is waited for
	return !errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
