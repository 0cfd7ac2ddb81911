package repo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"dstack/protocol/api"
	"dstack/protocol/words"
)

// errNoCreds says that nothing opened the repo.
const errNoCreds = Error("No valid default Git credentials found. Pass valid `--token` or `--git-identity`.")

// Finder finds what opens a repo.
type Finder struct {
	// Home is the user's home, Env the environment of git and ssh.
	Home string
	Env  []string
	// Identity is the path of a private key and Token an OAuth token that the
	// user gave; both may be empty.
	Identity, Token string
}

// Find tries what may open the repo, in the order of 0.22.5: nothing, the
// key and the token that the user gave (the first that there is decides), the
// keys that ~/.ssh/config names for the host, the token of gh, ~/.ssh/id_rsa.
func (f Finder) Find(ctx context.Context, u URL) (api.RemoteRepoCreds, error) {
	if err := f.open(ctx, u.HTTPS(), ""); err == nil || !failed(err) {
		return api.RemoteRepoCreds{CloneURL: u.HTTPS()}, err
	}
	var creds *api.RemoteRepoCreds
	var err error
	switch {
	case f.Identity != "":
		creds, err = f.withKey(ctx, u, f.path(f.Identity))
	case f.Token != "":
		creds, err = f.withToken(ctx, u, f.Token)
	default:
		creds, err = f.defaults(ctx, u)
	}
	if err != nil {
		return api.RemoteRepoCreds{}, err
	}
	if creds == nil {
		return api.RemoteRepoCreds{}, errNoCreds
	}
	return *creds, nil
}

func (f Finder) defaults(ctx context.Context, u URL) (*api.RemoteRepoCreds, error) {
	for _, key := range f.configured(ctx, u.Alias) {
		if creds, err := f.withKey(ctx, u, key); creds != nil || err != nil {
			return creds, err
		}
	}
	if token := f.ghToken(u.Host); token != "" {
		if creds, err := f.withToken(ctx, u, token); creds != nil || err != nil {
			return creds, err
		}
	}
	return f.withKey(ctx, u, filepath.Join(f.Home, ".ssh", "id_rsa"))
}

// withKey gives credentials if the key opens the repo, nil if it does not.
func (f Finder) withKey(ctx context.Context, u URL, path string) (*api.RemoteRepoCreds, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil //nolint:nilerr // a default that is not there, or the sentence of errNoCreds
	}
	if _, err := ssh.ParsePrivateKey(text); err != nil {
		if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked && f.Identity != "" {
			return nil, fault("The SSH key at %s is protected by a passphrase, which a server can't type. Use a key without one: ssh-keygen -t ed25519 -N '' -f %s", path, path+"_dstack")
		}
		return nil, nil
	}
	if err := f.open(ctx, u.SSH(), path); err != nil {
		return nil, ignoreRefusal(err)
	}
	key := string(text)
	return &api.RemoteRepoCreds{CloneURL: u.SSH(), PrivateKey: &key}, nil
}

func (f Finder) withToken(ctx context.Context, u URL, token string) (*api.RemoteRepoCreds, error) {
	g := f.probe("DSTACK_GIT_TOKEN=" + token)
	// The token is in the environment: arguments can be seen by everybody.
	const helper = `!f() { echo username=anything; echo "password=$DSTACK_GIT_TOKEN"; }; f`
	if err := g.run(ctx, nil, "-c", "credential.helper="+helper, "ls-remote", "--symref", u.HTTPS(), "HEAD"); err != nil {
		return nil, ignoreRefusal(err)
	}
	return &api.RemoteRepoCreds{CloneURL: u.HTTPS(), OAuthToken: &token}, nil
}

// ignoreRefusal is err, or nil if git ran and said no.
func ignoreRefusal(err error) error {
	if failed(err) {
		return nil
	}
	return err
}

// open asks for the head of the repo with a key, or with nothing.
func (f Finder) open(ctx context.Context, url, key string) error {
	g := f.probe()
	if key != "" {
		g.env = append(g.env, "GIT_SSH_COMMAND=ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile="+
			words.Quote(filepath.Join(f.Home, ".ssh", "known_hosts"))+" -i "+words.Quote(key))
	}
	return g.run(ctx, nil, "ls-remote", "--symref", url, "HEAD")
}

// probe is a git without any configuration that asks nobody.
func (f Finder) probe(extra ...string) git {
	env := slices.DeleteFunc(slices.Clone(f.Env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"GIT_ASKPASS", "SSH_ASKPASS", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_DIR", "GIT_WORK_TREE", "SSH_AUTH_SOCK"}, name) ||
			strings.HasPrefix(name, "GIT_CONFIG")
	})
	env = append(env, "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_SYSTEM="+os.DevNull, "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_CEILING_DIRECTORIES="+os.TempDir())
	return git{dir: os.TempDir(), env: append(env, extra...)}
}

func (f Finder) path(p string) string {
	if p == "~" || strings.HasPrefix(p, "~/") {
		return filepath.Join(f.Home, p[1:])
	}
	return p
}

func (f Finder) sshConfig() string { return filepath.Join(f.Home, ".ssh", "config") }

// HostName is what ~/.ssh/config makes of a host's name.
func (f Finder) HostName(ctx context.Context, host string) string {
	for _, option := range f.sshOptions(ctx, host) {
		if name, ok := strings.CutPrefix(option, "hostname "); ok {
			return name
		}
	}
	return host
}

// defaultKeys are the names of keys that ssh tries without configuration.
var defaultKeys = []string{"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"}

// configured are the keys that ~/.ssh/config names for a host.
func (f Finder) configured(ctx context.Context, host string) []string {
	var keys []string
	for _, option := range f.sshOptions(ctx, host) {
		if key, ok := strings.CutPrefix(option, "identityfile "); ok {
			keys = append(keys, f.path(key))
		}
	}
	isDefault := func(key string) bool {
		return filepath.Dir(key) == filepath.Join(f.Home, ".ssh") && slices.Contains(defaultKeys, filepath.Base(key))
	}
	if len(keys) > 1 && !slices.ContainsFunc(keys, func(key string) bool { return !isDefault(key) }) {
		return nil // ssh lists its defaults where nothing is configured
	}
	return keys
}

// sshOptions asks ssh what ~/.ssh/config says of a host; nothing without
// that file or without ssh.
func (f Finder) sshOptions(ctx context.Context, host string) []string {
	if _, err := os.Stat(f.sshConfig()); err != nil || strings.HasPrefix(host, "-") {
		return nil
	}
	cmd := exec.CommandContext(ctx, "ssh", "-F", f.sshConfig(), "-G", host)
	cmd.Env = f.Env
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	return strings.Split(string(bytes.TrimSpace(out)), "\n")
}

// ghToken is the token that gh keeps for a host.
func (f Finder) ghToken(host string) string {
	data, err := os.ReadFile(filepath.Join(f.Home, ".config", "gh", "hosts.yml"))
	if err != nil {
		return ""
	}
	var hosts map[string]struct {
		Token string `yaml:"oauth_token"`
	}
	if yaml.Unmarshal(data, &hosts) != nil {
		return ""
	}
	return hosts[host].Token
}
