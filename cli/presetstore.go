package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// storedPreset is a preset in ~/.dstack/presets, made by dstack 0.22.5. The
// file's fields are kept as they are.
type storedPreset struct {
	ID     string
	folder string
	// made is when the file was written.
	made   time.Time
	fields map[string]any
}

// text is a field that is a text, or empty.
func (p storedPreset) text(name string) string {
	s, _ := p.fields[name].(string)
	return s
}

// MarshalJSON writes the fields of the file, with the id.
func (p storedPreset) MarshalJSON() ([]byte, error) {
	all := map[string]any{"id": p.ID}
	for name, value := range p.fields {
		all[name] = value
	}
	data, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("write preset %s: %w", p.ID, err)
	}
	return data, nil
}

func presetFolder(home string) string { return filepath.Join(home, ".dstack", "presets") }

// loadPresets reads all finished presets, newest first. A broken one is told
// by warn and left out.
func loadPresets(home string, warn func(string)) ([]storedPreset, error) {
	entries, err := os.ReadDir(presetFolder(home))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the presets: %w", err)
	}
	var all []storedPreset
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		p, err := loadPreset(filepath.Join(presetFolder(home), e.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist): // a search that did not end
		case err != nil:
			warn(err.Error())
		default:
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b storedPreset) int { return b.made.Compare(a.made) })
	return all, nil
}

func loadPreset(folder string) (storedPreset, error) {
	path := filepath.Join(folder, "preset.yml")
	data, err := os.ReadFile(path)
	if err != nil {
		return storedPreset{}, fmt.Errorf("read preset: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return storedPreset{}, fmt.Errorf("read preset: %w", err)
	}
	p := storedPreset{ID: filepath.Base(folder), folder: folder, made: info.ModTime()}
	if err := yaml.Unmarshal(data, &p.fields); err != nil {
		return storedPreset{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// findPreset finds a preset by its id, the beginning of it, or its name.
func (a *App) findPreset(ref string) (storedPreset, error) {
	all, err := loadPresets(a.env.Home, a.warn)
	if err != nil {
		return storedPreset{}, err
	}
	for _, p := range all {
		if p.ID == ref || p.text("name") == ref {
			return p, nil
		}
	}
	return storedPreset{}, missing("Preset '%s' does not exist", ref)
}

// service is the configuration of the preset as a file.
func (p storedPreset) service(name string) ([]byte, error) {
	conf, ok := p.fields["service"].(map[string]any)
	if !ok {
		return nil, sentence("Preset %s has no service configuration", p.ID)
	}
	if name != "" {
		conf["name"] = name
	}
	conf["type"] = "service"
	data, err := yaml.Marshal(conf)
	if err != nil {
		return nil, fmt.Errorf("write the service of preset %s: %w", p.ID, err)
	}
	return data, nil
}

// validReference says whether a text is PROJECT/NAME.
func validReference(ref string) bool {
	project, name, ok := strings.Cut(ref, "/")
	return ok && project != "" && name != "" && !strings.Contains(name, "/")
}
