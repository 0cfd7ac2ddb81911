// Package cloudinit writes the user-data with which a rented machine becomes a
// host of ours: who may log in, which host key it has, and a script that sees
// to Docker. The shim comes over SSH; user-data can only make that quicker.
//
// What is in user-data can be read by whoever reaches the machine's metadata
// address and by everybody who may describe machines in the account. So the
// host key in it is for the first contact alone, and no password is ever in it.
package cloudinit

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxSize is the least that a cloud allows for user-data, in bytes (AWS:
// 16 KB before base64; shared spec, backends.md 1.8).
const MaxSize = 16 << 10

// ErrTooLarge means that the user-data is over [MaxSize].
var ErrTooLarge = errors.New("user-data is larger than 16 KB")

//go:embed prepare.sh
var prepareScript string

//go:embed settings.py
var settingsScript string

// installSettings keeps settings.py on the machine and runs it.
const installSettings = `f=/usr/local/sbin/dstack-docker-settings; printf '%s' "$0" >$f; chmod 755 $f; exec $f "$@"`

// prepareScriptPath is where prepare.sh lies on the machine; its output goes to
// cloud-init's own log, /var/log/cloud-init-output.log.
const prepareScriptPath = "/usr/local/sbin/dstack-prepare"

// cloud-init's own ssh_pwauth restarts sshd when we are connected already; this
// is there before sshd starts. Its first value of a setting counts.
const (
	sshdSettingsPath = "/etc/ssh/sshd_config.d/10-dstack.conf"
	sshdSettings     = "PasswordAuthentication no\n"
)

// Machine is what is particular to one machine.
type Machine struct {
	// User logs in; it is the image's own user ("ubuntu") or root.
	User string
	// AuthorizedKeys may log in as User, authorized_keys format.
	AuthorizedKeys []string
	// HostKey is the machine's first ed25519 host key: the private one as
	// OpenSSH PEM, the public one in authorized_keys format.
	HostKey, HostKeyPublic string
	// NVIDIA says that the machine has GPUs for which containers need NVIDIA's
	// runtime.
	NVIDIA bool
	// Pull are public images that are fetched while the controller connects.
	Pull []string
	// Shim is fetched if it is given; else it comes over SSH.
	Shim *Download
	// Commands are what the cloud needs before all else, each one for /bin/sh.
	Commands []string
}

// Download is a file with its SHA-256 in hex.
type Download struct{ URL, SHA256 string }

// document is the cloud-config. Fields are those of cloud-init's own schema.
type document struct {
	DisableRoot   bool              `yaml:"disable_root"`
	SSHDeleteKeys bool              `yaml:"ssh_deletekeys"`
	SSHKeys       map[string]string `yaml:"ssh_keys"`
	Users         []any             `yaml:"users"`
	BootCommands  [][]string        `yaml:"bootcmd"`
	WriteFiles    []file            `yaml:"write_files"`
	RunCommands   [][]string        `yaml:"runcmd"`
}

type user struct {
	Name  string   `yaml:"name"`
	Sudo  string   `yaml:"sudo,omitempty"`
	Shell string   `yaml:"shell,omitempty"`
	Keys  []string `yaml:"ssh_authorized_keys"`
}

type file struct {
	Path        string `yaml:"path"`
	Permissions string `yaml:"permissions"`
	Content     string `yaml:"content"`
}

// UserData is the document for a machine. It fails with [ErrTooLarge], or if a
// key or name could break out of its place.
func UserData(m Machine) (string, error) {
	if err := m.check(); err != nil {
		return "", err
	}
	d := document{
		DisableRoot:   m.User != "root",
		SSHDeleteKeys: true, // those of the image are everybody's
		SSHKeys:       map[string]string{"ed25519_private": m.HostKey, "ed25519_public": m.HostKeyPublic},
		Users:         []any{"default", login(m)},
		BootCommands:  [][]string{m.settings()},
		WriteFiles: []file{
			{Path: prepareScriptPath, Permissions: "0755", Content: prepareScript},
			{Path: sshdSettingsPath, Permissions: "0644", Content: sshdSettings},
		},
	}
	for _, c := range m.Commands {
		d.RunCommands = append(d.RunCommands, []string{"sh", "-c", c})
	}
	d.RunCommands = append(d.RunCommands, append([]string{prepareScriptPath}, m.arguments()...))
	var b strings.Builder
	b.WriteString("#cloud-config\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(d), enc.Close()); err != nil {
		return "", fmt.Errorf("write user-data: %w", err)
	}
	if b.Len() > MaxSize {
		return "", fmt.Errorf("%w: %d bytes", ErrTooLarge, b.Len())
	}
	return b.String(), nil
}

func login(m Machine) user {
	if m.User == "root" {
		return user{Name: "root", Keys: m.AuthorizedKeys}
	}
	return user{Name: m.User, Sudo: "ALL=(ALL) NOPASSWD:ALL", Shell: "/bin/bash", Keys: m.AuthorizedKeys}
}

// settings is the command that gives Docker its settings before it starts.
func (m Machine) settings() []string {
	out := []string{"sh", "-c", installSettings, settingsScript}
	if m.NVIDIA {
		out = append(out, "--nvidia")
	}
	return out
}

func (m Machine) arguments() []string {
	var out []string
	if m.NVIDIA {
		out = append(out, "--nvidia")
	}
	if m.Shim != nil {
		out = append(out, "--shim", m.Shim.URL, m.Shim.SHA256)
	}
	for _, image := range m.Pull {
		out = append(out, "--pull", image)
	}
	return out
}

func (m Machine) check() error {
	if m.User == "" || strings.ContainsFunc(m.User, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return fmt.Errorf("user %q is no name of a login", m.User)
	}
	lines := append(slices.Clone(m.AuthorizedKeys), m.HostKeyPublic)
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n\x00") || !strings.Contains(line, " ") {
			return fmt.Errorf("%q is not one public key", line)
		}
	}
	if !strings.Contains(m.HostKey, "PRIVATE KEY") {
		return errors.New("the host key is no private key in PEM")
	}
	return nil
}
