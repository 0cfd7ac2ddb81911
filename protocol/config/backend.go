package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dstack/protocol/internal/decode"
)

// Backend is a configured backend (spec: configuration.md 12.2). On the wire it
// is the configuration itself, told apart by its "type".
type Backend struct {
	Type string
	// Config is a pointer to the struct of the type: one of this package
	// whose names end in Backend.
	Config any
}

// MarshalJSON writes the configuration with its credentials.
func (b Backend) MarshalJSON() ([]byte, error) { return json.Marshal(b.Config) }

// Public writes the configuration for those who may not see credentials.
func (b Backend) Public() (json.RawMessage, error) {
	all, err := json.Marshal(b.Config)
	if err != nil {
		return nil, fmt.Errorf("write backend: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(all, &fields); err != nil {
		return nil, fmt.Errorf("write backend: %w", err)
	}
	delete(fields, "creds")
	delete(fields, "kubeconfig")
	if slurm, ok := b.Config.(*SlurmBackend); ok {
		fields["clusters"] = slurm.withoutLogins()
	}
	return json.Marshal(fields)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (b *Backend) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*b = Backend{}
		return nil
	}
	parsed, err := DecodeBackend(data)
	if err != nil {
		return fmt.Errorf("read backend: %w", err)
	}
	*b = parsed
	return nil
}

// FileReader reads a file that a configuration names; the path is as the
// user wrote it, maybe with ~ for the home folder.
type FileReader func(path string) ([]byte, error)

// DecodeBackend reads a backend as REST clients send it, with credentials. The
// error is [Errors].
func DecodeBackend(data []byte) (Backend, error) {
	root, err := decode.JSON(data)
	if err != nil {
		return Backend{}, err
	}
	return decode.Read("", root, ReadBackend)
}

// DecodeBackendYAML reads a backend as it stands in config.yml. Files that it
// names are read with files. path is used in errors, which are [Errors].
func DecodeBackendYAML(path string, data []byte, files FileReader) (Backend, error) {
	root, err := decode.YAML(path, data)
	if err != nil {
		return Backend{}, err
	}
	return decode.Read(path, root, backendForm{files: files}.read)
}

// ReadBackend reads a backend in its REST form.
func ReadBackend(v decode.Value) Backend { return backendForm{}.read(v) }

// configurableBackends are the backend types that can be configured, in the
// order of 0.22.5's errors.
var configurableBackends = []string{
	"aws", "azure", "cloudrift", "crusoe", "cudo", "verda", "datacrunch", "daytona", "amddevcloud", "digitalocean",
	"gcp", "hotaisle", "jarvislabs", "kubernetes", "lambda", "lium", "nebius", "oci", "runpod", "seeweb", "slurm",
	"tensordock", "vastai", "vultr",
}

// backendForm reads backends in the form of config.yml if it has files, in
// the form of REST if not: that one needs the content of files.
type backendForm struct {
	files FileReader
}

func (f backendForm) read(v decode.Value) Backend {
	typ, o := decode.Variant(v, "type", configurableBackends...)
	if typ == "" {
		return Backend{}
	}
	defer o.Done()
	return Backend{Type: typ, Config: f.readConfig(typ, o)}
}

func (f backendForm) readConfig(typ string, o *decode.Object) any {
	switch typ {
	case "aws":
		return readAWS(o)
	case "azure":
		return readAzure(o)
	case "gcp":
		return f.readGCP(o)
	case "kubernetes":
		return f.readKubernetes(o)
	case "nebius":
		return f.readNebius(o)
	case "oci":
		return readOCI(o)
	case "slurm":
		return f.readSlurm(o)
	}
	return readSmall(typ, o)
}

// content gives what a field holds, or else what the file holds that another
// field names.
func (f backendForm) content(o *decode.Object, fileField string, file, content *string) *string {
	if content != nil || f.files == nil {
		return content
	}
	if file == nil || *file == "" {
		return nil
	}
	text := f.file(o.Child(fileField), *file)
	return &text
}

// file reads the file that v names.
func (f backendForm) file(v decode.Value, path string) string {
	data, err := f.files(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.FailBare("value_error", "No such file "+path, "")
	case err != nil:
		v.FailBare("value_error", fmt.Sprintf("cannot read file %s: %v", path, err), "")
	}
	return string(data)
}

// OSFile is the [FileReader] of real files.
func OSFile(path string) ([]byte, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find home folder: %w", err)
		}
		path = filepath.Join(home, rest)
	}
	return os.ReadFile(path)
}

func readRegions(o *decode.Object) []string {
	return decode.Field(o, "regions", decode.OptionalList(decode.Text))
}

func optionalText(o *decode.Object, key string) *string {
	return decode.Field(o, key, decode.Optional(decode.Text))
}

func optionalBool(o *decode.Object, key string) *bool {
	return decode.Field(o, key, decode.Optional(decode.Boolean))
}

func optionalMap(o *decode.Object, key string) map[string]string {
	return decode.Field(o, key, func(v decode.Value) map[string]string {
		if v.Kind() == decode.Null {
			return nil
		}
		return decode.MapOf(decode.Text)(v)
	})
}

// readCreds reads `creds` of a backend with one form of them.
func readCreds[T any](o *decode.Object, typ string, read func(*decode.Object) T) T {
	return decode.Required(o, "creds", func(v decode.Value) T {
		c := v.Secret().Object()
		defer c.Done()
		decode.Field(c, "type", decode.Literal(typ))
		return read(c)
	})
}
