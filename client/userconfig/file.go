package userconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"dstack/durable"
	"dstack/protocol/config"
)

// File is ~/.dstack/config.yml in memory. Change it with its methods, then
// Save it.
type File struct {
	path     string
	projects []config.ClientProject
}

// Path gives where the file lies below a home folder.
func Path(home string) string { return filepath.Join(home, ".dstack", "config.yml") }

// Load reads the file; a missing one is empty. An invalid one is an error
// ([config.Errors]), so that it is never overwritten.
func Load(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{path: path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the CLI's configuration: %w; it must be a file that you can read", err)
	}
	projects, err := config.DecodeClient(path, data)
	if err != nil {
		return nil, err
	}
	return &File{path: path, projects: projects}, nil
}

// Projects gives all entries in the file's order.
func (f *File) Projects() []config.ClientProject { return slices.Clone(f.projects) }

// Project finds an entry by name, or the default one if name is empty.
func (f *File) Project(name string) (config.ClientProject, bool) {
	i := slices.IndexFunc(f.projects, func(p config.ClientProject) bool {
		return name == "" && p.Default || name != "" && p.Name == name
	})
	if i < 0 {
		return config.ClientProject{}, false
	}
	return f.projects[i], true
}

// Put adds or replaces the entry of that name. It becomes the default if p
// says so or if no entry is the default yet, and stays it if it was.
func (f *File) Put(p config.ClientProject) {
	current, hasDefault := f.Project("")
	p.Default = p.Default || !hasDefault || current.Name == p.Name
	i := slices.IndexFunc(f.projects, func(q config.ClientProject) bool { return q.Name == p.Name })
	if i < 0 {
		f.projects = append(f.projects, p)
	} else {
		f.projects[i] = p
	}
	if p.Default {
		f.SetDefault(p.Name)
	}
}

// SetDefault makes the entry of that name the only default; false if there
// is none of that name.
func (f *File) SetDefault(name string) bool {
	if _, ok := f.Project(name); !ok || name == "" {
		return false
	}
	for i := range f.projects {
		f.projects[i].Default = f.projects[i].Name == name
	}
	return true
}

// Delete removes the entry of that name, if any. If it was the default, there
// is no default afterwards.
func (f *File) Delete(name string) {
	f.projects = slices.DeleteFunc(f.projects, func(p config.ClientProject) bool { return p.Name == name })
}

// Save writes the file so that readers see the old or the new one, never a
// part, and that only the user can read it.
func (f *File) Save() error {
	data, err := config.EncodeClient(f.projects)
	if err != nil {
		return err
	}
	path := f.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a linked file stays a link
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot write the CLI's configuration: %w; make %s writable for you, or free some space", err, filepath.Dir(path))
	}
	if err := durable.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("cannot write the CLI's configuration: %w; make %s writable for you, or free some space", err, filepath.Dir(path))
	}
	return nil
}
