package hosts

import (
	"maps"
	"slices"

	"dstack/controller/store"
	"dstack/protocol/hostapi"
)

// Target says which host an instance is, how to reach it, and where its
// event stream stands.
type Target struct {
	InstanceID string
	Access     store.Access
	// HostKeys are the pinned host keys (see store.Instance.HostKeys); empty
	// means that the first key seen is trusted and reported to the Observer.
	HostKeys []string
	// HostID and Seq are what the Observer stored last: every event up to
	// Seq of the shim installation HostID. Both are empty for a new host.
	HostID string
	Seq    uint64
	// Rented is set for a machine of a cloud.
	Rented *Rented
}

// Rented is what is to be done on a machine of a cloud besides.
type Rented struct {
	// Cloud is the type of the backend.
	Cloud string
	// Spot says that the cloud may take the machine back: its notices are
	// watched for.
	Spot bool
	// FirstKey is the host key that came with the user-data, authorized_keys
	// format. While HostKeys has it, the machine is asked for another one.
	FirstKey string
}

// env are the variables that tell the shim of it.
func (r *Rented) env() map[string]string {
	if r == nil {
		return nil
	}
	env := map[string]string{hostapi.EnvCloud: r.Cloud}
	if r.Spot {
		env[hostapi.EnvSpot] = "true"
	}
	return env
}

// firstKey is the pinned host key that is to be replaced, empty for none.
func (t Target) firstKey() string {
	if t.Rented == nil || !slices.Contains(t.HostKeys, t.Rented.FirstKey) {
		return ""
	}
	return t.Rented.FirstKey
}

// sameAccess says whether both lead to the same host in the same way.
func sameAccess(a, b store.Access) bool {
	if (a.Jump == nil) != (b.Jump == nil) {
		return false
	}
	if a.Jump != nil && (a.Jump.Host != b.Jump.Host || a.Jump.Port != b.Jump.Port ||
		a.Jump.User != b.Jump.User || !slices.Equal(a.Jump.Keys, b.Jump.Keys)) {
		return false
	}
	return a.Local == b.Local && a.Host == b.Host && a.Port == b.Port && a.User == b.User &&
		slices.Equal(a.Keys, b.Keys) && maps.Equal(a.Env, b.Env)
}
