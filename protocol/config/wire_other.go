package config

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// wireVolume is a Volume with the fields of all backends.
type wireVolume Volume

// MarshalJSON writes the fields that the backend has.
func (v Volume) MarshalJSON() ([]byte, error) {
	w := map[string]any{
		"type": TypeVolume, "backend": v.Backend, "name": v.Name, "auto_cleanup_duration": v.AutoCleanupDuration, "tags": v.Tags,
	}
	own := map[string]any{
		"size": v.Size, "volume_id": v.VolumeID, "region": v.Region, "availability_zone": v.AvailabilityZone,
		"claim_name": v.ClaimName, "storage_class_name": v.StorageClassName,
		"access_modes": List[string](v.AccessModes), "read_only": v.ReadOnly,
	}
	for _, field := range volumeFields[v.Backend] {
		w[field] = own[field]
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *Volume) UnmarshalJSON(b []byte) error {
	var w wireVolume
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read volume configuration: %w", err)
	}
	*v = Volume(w)
	return nil
}

// wirePresetRepo and wirePresetBase are the two forms of PresetModel.
type wirePresetRepo struct {
	Repo string  `json:"repo"`
	Name *string `json:"name"`
}

type wirePresetBase struct {
	Base string `json:"base"`
}

// MarshalJSON writes {base} or {repo, name}.
func (m PresetModel) MarshalJSON() ([]byte, error) {
	if m.Base != "" {
		return json.Marshal(wirePresetBase{m.Base})
	}
	return json.Marshal(wirePresetRepo{m.Repo, m.Name})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *PresetModel) UnmarshalJSON(b []byte) error {
	var w struct {
		wirePresetRepo
		wirePresetBase
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read model of preset: %w", err)
	}
	*m = PresetModel{Base: w.Base, Repo: w.Repo, Name: w.Name}
	return nil
}

// MarshalJSON writes a text, a reference or a boolean.
func (g PresetGateway) MarshalJSON() ([]byte, error) {
	if g.Text != "" {
		return json.Marshal(g.Text)
	}
	return g.ServiceGateway.MarshalJSON()
}

// UnmarshalJSON reads what MarshalJSON writes.
func (g *PresetGateway) UnmarshalJSON(b []byte) error {
	*g = PresetGateway{}
	if bytes.HasPrefix(b, []byte(`"`)) {
		return json.Unmarshal(b, &g.Text)
	}
	return g.ServiceGateway.UnmarshalJSON(b)
}

// wirePromptFile is the object form of PresetPrompt.
type wirePromptFile struct {
	Path string `json:"path"`
}

// MarshalJSON writes a text or {path}.
func (p PresetPrompt) MarshalJSON() ([]byte, error) {
	if p.Path != "" {
		return json.Marshal(wirePromptFile{p.Path})
	}
	return json.Marshal(p.Text)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *PresetPrompt) UnmarshalJSON(b []byte) error {
	*p = PresetPrompt{}
	if !bytes.HasPrefix(b, []byte("{")) {
		return json.Unmarshal(b, &p.Text)
	}
	var w wirePromptFile
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read prompt: %w", err)
	}
	p.Path = w.Path
	return nil
}
