package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"dstack/client"
	"dstack/client/userconfig"
	"dstack/protocol/version"
)

const (
	// checkTime is how long one check may take.
	checkTime = 5 * time.Second
	// Clocks that differ more make times wrong; more than the second, sign-on
	// and certificates fail.
	clockWarn, clockFail = 10 * time.Second, 5 * time.Minute
	// Less free disk than this stops logs, uploads and caches.
	diskWarn, diskFail = 5 << 30, 200 << 20
)

// checkConfig looks at ~/.dstack/config.yml and the variables that replace it.
func (a *App) checkConfig(project string) check {
	const name = "config"
	path := userconfig.Path(a.env.Home)
	if a.env.Getenv("DSTACK_SERVER_URL") != "" && a.env.Getenv("DSTACK_TOKEN") != "" {
		return passed(name, "DSTACK_SERVER_URL and DSTACK_TOKEN are set and used instead of "+path)
	}
	file, err := a.userConfig()
	if err != nil {
		return check{name, checkFail, err.Error(), "Correct the file, or make it readable for you: chmod 600 " + path}
	}
	if _, err := userconfig.Resolve(file, project, a.env.LookupEnv); err != nil {
		return check{name, checkFail, err.Error(), "Or log in: dstack login --url URL"}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return check{name, checkWarn, err.Error(), "Make it readable for you."}
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0: // Windows has no such modes
		return check{name, checkWarn, fmt.Sprintf("%s can be read by other users (mode %04o), and it holds tokens", path, info.Mode().Perm()), "Run: chmod 600 " + path}
	}
	count := len(file.Projects())
	noun := "projects"
	if count == 1 {
		noun = "project"
	}
	return passed(name, fmt.Sprintf("%s has %d %s", path, count, noun))
}

// checkServer looks at the server, its clock, the token and the project.
func (a *App) checkServer(ctx context.Context, project string) []check {
	s, err := a.connect(project)
	if err != nil {
		return []check{{"server", checkFail, "not checked: no server is configured", ""}}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	probe, err := s.Probe(ctx)
	if err != nil {
		return []check{{"server", checkFail, err.Error(), "Start it (dstack server), or correct its URL: dstack project add"}}
	}
	checks := []check{serverVersion(s.BaseURL(), probe), checkClock(probe.Date, a.env.Now())}
	user, err := s.MyUser(ctx)
	if err != nil {
		return append(checks, check{"token", checkFail, err.Error(), "Get a new token from an admin, or run: dstack login"})
	}
	checks = append(checks, passed("token", "valid; you are "+user.Username))
	if _, err := s.GetProject(ctx); err != nil {
		return append(checks, check{"project", checkFail, err.Error(), "Ask an admin of the project to add you, or choose another one: dstack project"})
	}
	return append(checks, passed("project", s.project))
}

func serverVersion(url string, probe client.Probe) check {
	found := fmt.Sprintf("%s answers in %d ms, version %s", url, probe.RoundTrip.Milliseconds(), probe.Version)
	major := func(v string) string {
		parts := strings.Split(v, ".")
		return strings.Join(parts[:min(2, len(parts))], ".")
	}
	if probe.Version != version.Version && major(probe.Version) != major(version.Compatible) {
		return check{"server", checkWarn, found, "This command line was made for " + version.Version + " and " + version.Compatible + "; update the older one."}
	}
	return passed("server", found)
}

// checkClock compares the server's clock with ours.
func checkClock(server, now time.Time) check {
	const name = "clock"
	if server.IsZero() {
		return check{name, checkWarn, "the server does not tell its time", ""}
	}
	ahead := now.Sub(server)
	behind := "ahead of"
	if ahead < 0 {
		ahead, behind = -ahead, "behind"
	}
	found := fmt.Sprintf("this machine is %s %s the server", ahead.Round(time.Second), behind)
	const advice = "Set the clocks by NTP: timedatectl set-ntp true"
	switch {
	case ahead > clockFail:
		return check{name, checkFail, found, advice}
	case ahead > clockWarn:
		return check{name, checkWarn, found, advice}
	case ahead < 2*time.Second:
		return passed(name, "agrees with the server's")
	}
	return passed(name, found)
}

// checkSSH looks for the SSH client. Attaching needs none; `ssh RUN` and IDEs
// do.
func checkSSH(ctx context.Context, getenv func(string) string) check {
	const name, advice = "ssh", "Install OpenSSH's client (apt install openssh-client, winget install Git.Git); `ssh RUN` and IDEs need it."
	path := getenv("DSTACK_SSH_CLIENT")
	if path == "" {
		path = "ssh"
	}
	text, err := outputOf(ctx, path, "-V")
	switch {
	case err != nil && getenv("DSTACK_SSH_CLIENT") != "":
		return check{name, checkFail, "DSTACK_SSH_CLIENT=" + path + " can't be run: " + err.Error(), "Correct or unset DSTACK_SSH_CLIENT."}
	case err != nil:
		return check{name, checkWarn, "SSH client not found", advice}
	}
	client, _, _ := strings.Cut(text, ",")
	return passed(name, client)
}

// checkGit looks for git, which only repos need.
func checkGit(ctx context.Context) check {
	text, err := outputOf(ctx, "git", "--version")
	if err != nil {
		return check{"git", checkWarn, "git not found", "Install git if your configurations use `repos`."}
	}
	return passed("git", text)
}

// outputOf is the first line that a program prints.
func outputOf(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	text, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run %s: %w", program, err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line, nil
}

// checkDocker asks the Docker Engine of this machine for its version. Only a
// machine that runs jobs itself needs one.
func checkDocker(ctx context.Context, getenv func(string) string) check {
	const name, advice = "docker", "Only needed if this machine runs jobs itself: start Docker, and let your user use it (group docker)."
	if runtime.GOOS == "windows" {
		return passed(name, "not needed: jobs run on Linux hosts")
	}
	socket := "/var/run/docker.sock"
	if host := getenv("DOCKER_HOST"); host != "" {
		u, err := url.Parse(host)
		if err != nil || u.Scheme != "unix" {
			return passed(name, "DOCKER_HOST="+host+" is another machine: not checked")
		}
		socket = u.Path
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/version", http.NoBody)
	if err != nil {
		return check{name, checkWarn, err.Error(), advice}
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return check{name, checkWarn, "no Docker Engine answers at " + socket, advice}
	}
	defer resp.Body.Close() //nolint:errcheck // an answer that was read is only dropped
	var engine struct {
		Version string `json:"Version"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&engine); err != nil || resp.StatusCode != http.StatusOK {
		return check{name, checkWarn, fmt.Sprintf("the Docker Engine at %s answers with status %d", socket, resp.StatusCode), advice}
	}
	return passed(name, "Docker Engine "+engine.Version)
}

// checkDisk looks at the free space for ~/.dstack.
func checkDisk(home string) check {
	const name = "disk"
	folder := filepath.Join(home, ".dstack")
	if _, err := os.Stat(folder); err != nil {
		folder = home
	}
	free, err := freeSpace(folder)
	if err != nil {
		return check{name, checkWarn, fmt.Sprintf("%s can't be looked at: %v", folder, err), ""}
	}
	found := fmt.Sprintf("%.1f GB free at %s", float64(free)/(1<<30), folder)
	const advice = "Free some space: logs, uploads and caches need it."
	switch {
	case free < diskFail:
		return check{name, checkFail, found, advice}
	case free < diskWarn:
		return check{name, checkWarn, found, advice}
	}
	return passed(name, found)
}
