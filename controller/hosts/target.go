package hosts

import (
	"maps"
	"slices"

	"dstack/controller/store"
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
