package repo

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"dstack/protocol/api"
	"dstack/sshlink/sshtest"
	"dstack/test/gitserver"
)

func ptr[T any](v T) *T { return &v }

// site serves one repo: over HTTPS with a token, and over SSH with a key.
type site struct {
	url    URL
	key    string // opens it
	finder Finder
}

func newSite(t *testing.T, token string) site {
	t.Helper()
	root, home := t.TempDir(), t.TempDir()
	repo := filepath.Join(root, "r.git")
	gitserver.Git(t, root, "init", "-q", "--bare", repo)
	https, cert := gitserver.StartTLS(t, "/", token)
	private, signer := sshtest.NewKey(t)
	server := sshtest.Start(t, sshtest.Options{Authorized: []ssh.PublicKey{signer.PublicKey()}, Env: gitserver.Env()})
	u, err := ParseURL(https+repo, same)
	if err != nil {
		t.Fatal(err)
	}
	// Both URLs have one path: over SSH it is that of the disk.
	u.SSHPort, u.Alias = server.Port, "alias"
	return site{u, private, Finder{Home: home, Env: append(os.Environ(), "GIT_SSL_CAINFO="+cert, "HOME="+home)}}
}

func (s site) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.finder.Home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindCredentials(t *testing.T) {
	t.Parallel()
	const token = "sesame"
	other, _ := sshtest.NewKey(t)
	tests := []struct {
		name  string
		open  bool
		setup func(t *testing.T, s *site)
		want  func(s site) *api.RemoteRepoCreds // nil if none opens it
	}{
		{name: "public", open: true, setup: func(_ *testing.T, s *site) { s.finder.Token = "unused" }, want: anonymous},
		{name: "nothing", setup: func(*testing.T, *site) {}},
		{name: "token", setup: func(_ *testing.T, s *site) { s.finder.Token = token }, want: withToken(token)},
		{name: "wrong token", setup: func(t *testing.T, s *site) {
			s.finder.Token = "wrong"
			s.file(t, ".ssh/id_rsa", s.key) // a given token that fails is final
		}},
		{name: "key", setup: func(t *testing.T, s *site) { s.finder.Identity = s.file(t, "k", s.key) }, want: withKey},
		{name: "key below home", setup: func(t *testing.T, s *site) { s.file(t, "k", s.key); s.finder.Identity = "~/k" }, want: withKey},
		{name: "wrong key before the right token", setup: func(t *testing.T, s *site) {
			s.finder.Identity, s.finder.Token = s.file(t, "k", other), token
		}},
		{name: "no key there", setup: func(_ *testing.T, s *site) { s.finder.Identity = "/none" }},
		{name: "configured key", setup: func(t *testing.T, s *site) {
			s.file(t, ".ssh/config", fmt.Sprintf("Host alias\n  IdentityFile %s\n", s.file(t, "k", s.key)))
			s.file(t, ".config/gh/hosts.yml", "127.0.0.1:\n  oauth_token: "+token+"\n")
		}, want: withKey},
		{name: "token of gh", setup: func(t *testing.T, s *site) {
			s.file(t, ".ssh/config", "Host other\n  IdentityFile ~/none\n")
			s.file(t, ".ssh/id_rsa", s.key)
			s.file(t, ".config/gh/hosts.yml", "127.0.0.1:\n  user: me\n  oauth_token: "+token+"\n")
		}, want: withToken(token)},
		{name: "default key", setup: func(t *testing.T, s *site) { s.file(t, ".ssh/id_rsa", s.key) }, want: withKey},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			required := token
			if tt.open {
				required = ""
			}
			s := newSite(t, required)
			tt.setup(t, &s)
			got, err := s.finder.Find(t.Context(), s.url)
			if tt.want == nil {
				if err != errNoCreds { //nolint:errorlint // the error itself
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*tt.want(s), got); diff != "" {
				t.Errorf("credentials (-want +got):\n%s", diff)
			}
		})
	}
}

func anonymous(s site) *api.RemoteRepoCreds { return &api.RemoteRepoCreds{CloneURL: s.url.HTTPS()} }

func withToken(token string) func(s site) *api.RemoteRepoCreds {
	return func(s site) *api.RemoteRepoCreds {
		return &api.RemoteRepoCreds{CloneURL: s.url.HTTPS(), OAuthToken: &token}
	}
}

func withKey(s site) *api.RemoteRepoCreds {
	return &api.RemoteRepoCreds{CloneURL: s.url.SSH(), PrivateKey: ptr(s.key)}
}

func TestLockedKey(t *testing.T) {
	t.Parallel()
	s := newSite(t, "t")
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	s.finder.Identity = s.file(t, "k", string(pem.EncodeToMemory(block)))
	if _, err := s.finder.Find(t.Context(), s.url); err == nil || !strings.Contains(err.Error(), "is protected by a passphrase") {
		t.Error(err)
	}
}

func TestHostName(t *testing.T) {
	t.Parallel()
	s := newSite(t, "t")
	if got := s.finder.HostName(t.Context(), "work"); got != "work" {
		t.Errorf("without configuration: %s", got)
	}
	s.file(t, ".ssh/config", "Host work\n  HostName git.example.com\n")
	if got := s.finder.HostName(t.Context(), "work"); got != "git.example.com" {
		t.Errorf("got %s", got)
	}
}
