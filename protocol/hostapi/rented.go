package hostapi

// HostKey is the key with which the SSH server of a host proves who it is.
type HostKey struct {
	// Public is the public part, authorized_keys format without a comment.
	Public string `json:"public"`
}
