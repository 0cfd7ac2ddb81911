package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"dstack/cli/tunnel"
	"dstack/protocol/api"
	"dstack/sshlink/sshtest"
)

// TestKnownHostKeys: the key of a server's SSH proxy must be known already.
func TestKnownHostKeys(t *testing.T) {
	_, signer := sshtest.NewKey(t)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".ssh", "known_hosts"), []byte("[proxy.example]:2222 "+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &App{env: Env{Home: home}}
	got, err := a.knownHostKeys(tunnel.Hop{Host: "proxy.example", Port: 2222, User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{line}, got); diff != "" {
		t.Error(diff)
	}
	_, err = a.knownHostKeys(tunnel.Hop{Host: "other.example", Port: 2222, User: "u"})
	if err == nil || err.Error() != "The host key of other.example is not known. Check and accept it once with: ssh -p 2222 u@other.example" {
		t.Errorf("error = %v", err)
	}
}

// TestConfiguredKeys finds what the user's ssh has for a jump host, and not
// ssh's defaults.
func TestConfiguredKeys(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	text := "Host jump.example\n  IdentityFile ~/.ssh/id_work\n  IdentityFile /keys/other\nHost none.example\n  IdentityFile none\n"
	err := errors.Join(os.Mkdir(filepath.Join(home, ".ssh"), 0o700), os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte(text), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	a := &App{env: Env{Home: home}}
	for host, want := range map[string][]string{
		"jump.example": {filepath.Join(home, ".ssh", "id_work"), "/keys/other"}, "none.example": nil, "other.example": nil, "-oProxyCommand=x": nil,
	} {
		if diff := cmp.Diff(want, a.configuredKeys(t.Context(), host)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", host, diff)
		}
	}
}

func TestConnectionInfo(t *testing.T) {
	info := &api.JobConnectionInfo{
		IDEName: new("VS Code"), AttachedIDEURL: new("vscode://x"), ProxiedIDEURL: new("vscode://y"),
		AttachedSSHCommand: []string{"ssh", "run"}, ProxiedSSHCommand: []string{"ssh", "u@proxy"},
	}
	want := "To open in VS Code, use link(s) below:\n\n  vscode://x\n  vscode://y\n\nTo connect via SSH, use: `ssh run` or `ssh u@proxy`\n\n"
	if diff := cmp.Diff(want, connectionInfo(&reach{job: api.Job{JobConnectionInfo: info}})); diff != "" {
		t.Error(diff)
	}
	if got := ideLinks(&api.JobConnectionInfo{AttachedSSHCommand: []string{"ssh", "run"}}); got != "" {
		t.Errorf("links of a task: %q", got)
	}
}
