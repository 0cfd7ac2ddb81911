package userconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dstack/protocol/config"
)

// LoadProfile finds the profile that choice selects in .dstack/profiles.yml
// (then .yaml) of the folders here and home. Faults of a file are
// [config.Errors].
func LoadProfile(choice config.ProfileChoice, here, home string) (config.Profile, error) {
	local, err := loadProfiles(here)
	if err != nil {
		return config.Profile{}, err
	}
	global, err := loadProfiles(home)
	if err != nil {
		return config.Profile{}, err
	}
	return choice.Select(local, global)
}

func loadProfiles(folder string) ([]config.Profile, error) {
	for _, name := range []string{"profiles.yml", "profiles.yaml"} {
		path := filepath.Join(folder, ".dstack", name)
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read profiles: %w", err)
		}
		return config.DecodeProfiles(path, data)
	}
	return nil, nil
}

// ProfileNames lists the profiles of the folders here and home.
func ProfileNames(here, home string) ([]string, error) {
	var names []string
	for _, folder := range []string{here, home} {
		profiles, err := loadProfiles(folder)
		if err != nil {
			return nil, err
		}
		for _, p := range profiles {
			names = append(names, p.Name)
		}
	}
	return names, nil
}
