package agent

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dstack/agent/account"
	"dstack/agent/exec"
	"dstack/protocol/jobapi"
)

func clusterSpec(t *testing.T) *jobapi.Spec {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return &jobapi.Spec{
		Isolated: true, NodesNum: 2, NodesIPs: []string{"10.0.0.1", "10.0.0.2"},
		ClusterKey: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
}

func homeSetup(home string) *setup {
	return &setup{user: account.User{Home: home}, repoDir: "/workflow"}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestJoinCluster: the system's tools can use the key, and what the image had
// is still there.
func TestJoinCluster(t *testing.T) {
	t.Parallel()
	spec, home := clusterSpec(t), filepath.Join(t.TempDir(), "home")
	dir := filepath.Join(home, ".ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const own = "Host git\n  Port 22\n"
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(own), 0o640); err != nil {
		t.Fatal(err)
	}
	s := homeSetup(home)
	if os.Geteuid() == 0 {
		s.command = exec.Command{Credential: &syscall.Credential{Uid: 1234, Gid: 4321}}
	}
	h := host{root: "/", dir: t.TempDir()}
	for range 2 { // a home that several runs share
		if err := h.joinCluster(spec, s); err != nil {
			t.Fatal(err)
		}
	}
	config := readText(t, filepath.Join(dir, "config"))
	if strings.Count(config, "Host 10.0.0.2\n") != 1 || !strings.HasSuffix(config, own) {
		t.Errorf("configuration is\n%s", config)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("files: %v, %v", entries, err)
	}
	for name, mode := range map[string]os.FileMode{"config": 0o640, "dstack_job": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if info.Mode() != mode || !ok || s.command.Credential != nil && (owner.Uid != 1234 || owner.Gid != 4321) {
			t.Errorf("%s: %s of %d:%d", name, info.Mode(), owner.Uid, owner.Gid)
		}
	}
	out, err := osexec.CommandContext(t.Context(), "ssh-keygen", "-y", "-f", filepath.Join(dir, "dstack_job")).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "ssh-ed25519 ") {
		t.Errorf("key: %v, %s", err, out)
	}
}

func TestJoinClusterLeavesHomesAlone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*jobapi.Spec, *setup){
		"one node":          func(spec *jobapi.Spec, _ *setup) { spec.NodesNum = 1 },
		"no key":            func(spec *jobapi.Spec, _ *setup) { spec.ClusterKey = "" },
		"home in the repo":  func(spec *jobapi.Spec, s *setup) { spec.Repo, s.repoDir = &jobapi.Repo{}, s.user.Home },
		"home of the host":  func(spec *jobapi.Spec, _ *setup) { spec.Isolated = false },
		"user without home": func(_ *jobapi.Spec, s *setup) { s.user.Home = "/" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, home := clusterSpec(t), t.TempDir()
			s := homeSetup(home)
			change(spec, s)
			if err := (host{root: "/", dir: t.TempDir()}).joinCluster(spec, s); err != nil {
				t.Fatal(err)
			}
			if entries, err := os.ReadDir(home); err != nil || len(entries) != 0 {
				t.Errorf("home has %v, %v", entries, err)
			}
		})
	}
}

// TestJoinClusterFollowsNoLinks: what an image puts into a home cannot make
// the agent write or read elsewhere.
func TestJoinClusterFollowsNoLinks(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]string{".ssh": outside, ".ssh/config": secret} {
		home := t.TempDir()
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(link, path); err != nil {
			t.Fatal(err)
		}
		if err := (host{root: "/", dir: t.TempDir()}).joinCluster(clusterSpec(t), homeSetup(home)); err == nil {
			t.Errorf("%s: the link was followed", name)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 || readText(t, secret) != "secret" {
		t.Errorf("written outside of home: %v, %v", entries, err)
	}
}

// TestJoinClusterWritesFilesOfItsOwn: what others left in a home that they share
// under the names of the files that are written aside is neither filled nor
// waited for.
func TestJoinClusterWritesFilesOfItsOwn(t *testing.T) {
	t.Parallel()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	other := filepath.Join(home, "other")
	aside := func(file string) string { return filepath.Join(home, fmt.Sprintf("%s.%s-%d", file, name, os.Getpid())) }
	if err := errors.Join(
		os.Mkdir(filepath.Join(home, ".ssh"), 0o700), os.WriteFile(other, []byte("of others"), 0o600),
		os.Link(other, aside(clusterKeyFile)), syscall.Mkfifo(aside(sshConfigFile), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if err := (host{root: "/", dir: t.TempDir()}).joinCluster(clusterSpec(t), homeSetup(home)); err != nil {
		t.Error(err)
	}
	if text := readText(t, other); text != "of others" {
		t.Errorf("a linked file has %q", text)
	}
	if text := readText(t, filepath.Join(home, sshConfigFile)); !strings.Contains(text, "Host 10.0.0.2\n") {
		t.Errorf("configuration is %q", text)
	}
}
