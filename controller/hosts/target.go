package hosts

import (
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
