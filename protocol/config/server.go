package config

import (
	"encoding/base64"
	"fmt"
	"regexp"

	"dstack/protocol/internal/decode"
)

// Server is the server's config.yml (spec: configuration.md 12).
type Server struct {
	Projects           []ServerProject     `json:"projects"`
	Encryption         *Encryption         `json:"encryption"`
	DefaultPermissions *DefaultPermissions `json:"default_permissions"`
	Plugins            []string            `json:"plugins"`
}

// ServerProject is a project that config.yml manages. Backends that are
// not listed are taken from the project.
type ServerProject struct {
	Name     string    `json:"name"`
	Backends []Backend `json:"backends"`
}

// Encryption lists the keys for data at rest; the first one encrypts.
type Encryption struct {
	Keys []EncryptionKey `json:"keys"`
}

// Types of encryption keys.
const (
	KeyAES      = "aes"
	KeyIdentity = "identity"
)

// EncryptionKey is an AES-256 key, or the identity that leaves text plain.
// Secret is base64 of 32 bytes.
type EncryptionKey struct {
	Type   string `json:"type"`
	Name   string `json:"name,omitempty"`
	Secret string `json:"secret,omitempty"`
}

// DefaultPermissions is what roles may do beyond the fixed rules.
type DefaultPermissions struct {
	AllowNonAdminsCreateProjects  bool `json:"allow_non_admins_create_projects"`
	AllowNonAdminsManageSSHFleets bool `json:"allow_non_admins_manage_ssh_fleets"`
	AllowManagersManageSecrets    bool `json:"allow_managers_manage_secrets"`
}

// StandardPermissions is what holds without default_permissions.
func StandardPermissions() DefaultPermissions {
	return DefaultPermissions{AllowNonAdminsCreateProjects: true, AllowNonAdminsManageSSHFleets: true}
}

// DefaultServerFile is the text of the config.yml that a server creates.
const DefaultServerFile = `projects:
- name: main
  backends: []
encryption:
  keys: []
`

// DecodeServer parses config.yml. Files that backends name are read with
// files. path is used in errors, which are [Errors].
func DecodeServer(path string, data []byte, files FileReader) (Server, error) {
	root, err := decode.YAML(path, data)
	if err != nil {
		return Server{}, err
	}
	return decode.Read(path, root, func(v decode.Value) Server { return readServer(v, backendForm{files: files}) })
}

func readServer(v decode.Value, form backendForm) Server {
	o := v.Object()
	defer o.Done()
	return Server{
		Projects: decode.Required(o, "projects", decode.ListOf(func(v decode.Value) ServerProject {
			return readServerProject(v, form)
		})),
		Encryption:         decode.Field(o, "encryption", decode.Optional(readEncryption)),
		DefaultPermissions: decode.Field(o, "default_permissions", decode.Optional(readPermissions)),
		Plugins:            decode.Field(o, "plugins", decode.OptionalList(decode.Text)),
	}
}

var projectName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,50}$`)

func readServerProject(v decode.Value, form backendForm) ServerProject {
	o := v.Object()
	defer o.Done()
	return ServerProject{
		Name:     decode.Required(o, "name", decode.Matching(projectName)),
		Backends: decode.Field(o, "backends", decode.OptionalList(form.read)),
	}
}

func readEncryption(v decode.Value) Encryption {
	o := v.Secret().Object()
	defer o.Done()
	return Encryption{Keys: decode.Required(o, "keys", decode.ListOf(readEncryptionKey))}
}

var keyName = regexp.MustCompile(`^[a-zA-Z0-9]+$`)

func readEncryptionKey(v decode.Value) EncryptionKey {
	o := v.Object()
	defer o.Done()
	key := EncryptionKey{Type: decode.Required(o, "type", decode.Enum(KeyAES, KeyIdentity))}
	if key.Type != KeyAES {
		return key
	}
	key.Name = decode.Required(o, "name", decode.Matching(keyName))
	key.Secret = decode.Required(o, "secret", func(v decode.Value) string {
		s, ok := decode.Try(v, decode.Text)
		if !ok {
			return s
		}
		secret, err := base64.StdEncoding.DecodeString(s)
		switch {
		case err != nil:
			v.FailBare("value_error", "must be base64", "`openssl rand -base64 32` makes one")
		case len(secret) != 32:
			v.FailBare("value_error", fmt.Sprintf("must be base64 of 32 bytes, got %d", len(secret)), "`openssl rand -base64 32` makes one")
		}
		return s
	})
	return key
}

func readPermissions(v decode.Value) DefaultPermissions {
	o := v.Object()
	defer o.Done()
	def := StandardPermissions()
	return DefaultPermissions{
		AllowNonAdminsCreateProjects:  decode.FieldOr(o, "allow_non_admins_create_projects", def.AllowNonAdminsCreateProjects, decode.Boolean),
		AllowNonAdminsManageSSHFleets: decode.FieldOr(o, "allow_non_admins_manage_ssh_fleets", def.AllowNonAdminsManageSSHFleets, decode.Boolean),
		AllowManagersManageSecrets:    decode.FieldOr(o, "allow_managers_manage_secrets", def.AllowManagersManageSecrets, decode.Boolean),
	}
}
