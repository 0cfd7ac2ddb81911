package config

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// List is a list that is never null on the wire: nil is written as [].
type List[T any] []T

// MarshalJSON writes [] for nil.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// Map is a mapping that is never null on the wire: nil is written as {}.
type Map[T any] map[string]T

// MarshalJSON writes {} for nil.
func (m Map[T]) MarshalJSON() ([]byte, error) {
	if m == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]T(m))
}

// MarshalJSON writes {} for nil.
func (e Env) MarshalJSON() ([]byte, error) {
	return Map[EnvValue](e).MarshalJSON()
}

// sentinel is an unset variable on the wire.
type sentinel struct {
	Key string `json:"key"`
}

// MarshalJSON writes the value, or {"key": NAME} for a sentinel.
func (v EnvValue) MarshalJSON() ([]byte, error) {
	if v.From != "" {
		return json.Marshal(sentinel{Key: v.From})
	}
	return json.Marshal(v.Value)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *EnvValue) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte("{")) {
		var s sentinel
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("read variable: %w", err)
		}
		*v = EnvValue{From: s.Key}
		return nil
	}
	*v = EnvValue{}
	return json.Unmarshal(b, &v.Value)
}

// MarshalJSON writes the configuration that is set, or null.
func (r Run) MarshalJSON() ([]byte, error) {
	switch {
	case r.Task != nil:
		return json.Marshal(r.Task)
	case r.DevEnvironment != nil:
		return json.Marshal(r.DevEnvironment)
	case r.Service != nil:
		return json.Marshal(r.Service)
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads a normalised configuration and tells it by its type.
func (r *Run) UnmarshalJSON(b []byte) error {
	*r = Run{}
	if string(b) == "null" {
		return nil
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("read run configuration: %w", err)
	}
	switch head.Type {
	case TypeTask:
		return json.Unmarshal(b, &r.Task) //nolint:musttag // embedded structs have no tag: their fields are flattened
	case TypeDevEnvironment:
		return json.Unmarshal(b, &r.DevEnvironment) //nolint:musttag // as above
	case TypeService:
		return json.Unmarshal(b, &r.Service) //nolint:musttag // as above
	}
	return fmt.Errorf("read run configuration: unknown type %q", head.Type)
}

// mountVolume and mountInstance are the two kinds of mounts on the wire.
type mountVolume struct {
	Name any    `json:"name"`
	Path string `json:"path"`
}

type mountInstance struct {
	InstancePath string `json:"instance_path"`
	Path         string `json:"path"`
	Optional     bool   `json:"optional"`
}

// MarshalJSON writes an instance mount or a network volume.
func (m Mount) MarshalJSON() ([]byte, error) {
	switch {
	case m.InstancePath != "":
		return json.Marshal(mountInstance{InstancePath: m.InstancePath, Path: m.Path, Optional: m.Optional})
	case m.NameIsList || len(m.Names) != 1:
		return json.Marshal(mountVolume{Name: List[string](m.Names), Path: m.Path})
	}
	return json.Marshal(mountVolume{Name: m.Names[0], Path: m.Path})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Mount) UnmarshalJSON(b []byte) error {
	var w struct {
		mountInstance
		Name json.RawMessage `json:"name"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read mount: %w", err)
	}
	*m = Mount{InstancePath: w.InstancePath, Path: w.Path, Optional: w.Optional}
	if len(w.Name) == 0 {
		return nil
	}
	if w.Name[0] == '[' {
		m.NameIsList = true
		return json.Unmarshal(w.Name, &m.Names)
	}
	m.Names = make([]string, 1)
	return json.Unmarshal(w.Name, &m.Names[0])
}

// wireRetry is the object form of RetryPolicy.
type wireRetry struct {
	OnEvents []string `json:"on_events"`
	Duration *int     `json:"duration"`
}

// MarshalJSON writes a boolean or an object.
func (r RetryPolicy) MarshalJSON() ([]byte, error) {
	if r.Bool != nil {
		return json.Marshal(*r.Bool)
	}
	return json.Marshal(wireRetry{OnEvents: r.OnEvents, Duration: r.Duration})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *RetryPolicy) UnmarshalJSON(b []byte) error {
	if !bytes.HasPrefix(b, []byte("{")) {
		*r = RetryPolicy{}
		return json.Unmarshal(b, &r.Bool)
	}
	var w wireRetry
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read retry: %w", err)
	}
	*r = RetryPolicy{OnEvents: w.OnEvents, Duration: w.Duration}
	return nil
}

// MarshalJSON writes "off" or the number of seconds.
func (d OffableDuration) MarshalJSON() ([]byte, error) {
	if d.Off {
		return []byte(`"off"`), nil
	}
	return json.Marshal(d.Seconds)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *OffableDuration) UnmarshalJSON(b []byte) error {
	if string(b) == `"off"` {
		*d = OffableDuration{Off: true}
		return nil
	}
	*d = OffableDuration{}
	return json.Unmarshal(b, &d.Seconds)
}

// wireSelector has the fields of all three forms of InstanceSelector.
type wireSelector struct {
	Name     *string          `json:"name,omitempty"`
	Hostname *string          `json:"hostname,omitempty"`
	Fleet    *EntityReference `json:"fleet,omitempty"`
	Instance *int             `json:"instance,omitempty"`
}

// MarshalJSON writes only the fields of the form that is set.
func (s InstanceSelector) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireSelector(s))
}

// MarshalJSON writes "auto", a number, or null if unset.
func (b Blocks) MarshalJSON() ([]byte, error) {
	switch {
	case b.Auto:
		return []byte(`"auto"`), nil
	case b.Count == 0:
		return []byte("null"), nil
	}
	return json.Marshal(b.Count)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (b *Blocks) UnmarshalJSON(data []byte) error {
	if string(data) == `"auto"` {
		*b = Blocks{Auto: true}
		return nil
	}
	*b = Blocks{}
	return json.Unmarshal(data, &b.Count)
}

// MarshalJSON writes blocks 1 if unset.
func (f Fleet) MarshalJSON() ([]byte, error) {
	type plain Fleet
	p := plain(f)
	if p.Blocks == (Blocks{}) {
		p.Blocks.Count = 1
	}
	return json.Marshal(p)
}

// wireNodes is FleetNodes on the wire.
type wireNodes struct {
	Min    int  `json:"min"`
	Target *int `json:"target,omitempty"`
	Max    *int `json:"max"`
}

// MarshalJSON leaves target out when it equals min: older clients reject it.
func (n FleetNodes) MarshalJSON() ([]byte, error) {
	w := wireNodes{Min: n.Min, Max: n.Max}
	if n.Target != n.Min {
		w.Target = &n.Target
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *FleetNodes) UnmarshalJSON(b []byte) error {
	var w wireNodes
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read nodes: %w", err)
	}
	*n = FleetNodes{Min: w.Min, Target: w.Min, Max: w.Max}
	if w.Target != nil {
		n.Target = *w.Target
	}
	return nil
}

// wireHost is the object form of SSHHost.
type wireHost struct {
	Hostname     string    `json:"hostname"`
	Port         *int      `json:"port"`
	User         *string   `json:"user"`
	IdentityFile *string   `json:"identity_file"`
	ProxyJump    *SSHProxy `json:"proxy_jump"`
	InternalIP   *string   `json:"internal_ip"`
	SSHKey       *SSHKey   `json:"ssh_key"`
	Blocks       Blocks    `json:"blocks"`
}

// MarshalJSON writes a plain host as a string.
func (h SSHHost) MarshalJSON() ([]byte, error) {
	if h.Plain {
		return json.Marshal(h.Hostname)
	}
	return json.Marshal(wireHost{h.Hostname, h.Port, h.User, h.IdentityFile, h.ProxyJump, h.InternalIP, h.SSHKey, h.Blocks})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (h *SSHHost) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		*h = SSHHost{Plain: true}
		return json.Unmarshal(b, &h.Hostname)
	}
	var w wireHost
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read host: %w", err)
	}
	*h = SSHHost{w.Hostname, w.Port, w.User, w.IdentityFile, w.ProxyJump, w.InternalIP, w.SSHKey, w.Blocks, false}
	return nil
}
