package hostapi

import "time"

// HostKey is the key with which the SSH server of a host proves who it is.
type HostKey struct {
	// Public is the public part, authorized_keys format without a comment.
	Public string `json:"public"`
}

// Kinds of notices.
const (
	// NoticeInterruption says that the cloud takes the machine at Notice.Ends.
	// Its jobs have been told, and end before that.
	NoticeInterruption = "interruption"
	// NoticeRebalance says that the cloud is likelier than before to take it.
	NoticeRebalance = "rebalance"
)

// Notice is what a cloud announced about a machine that it may take back.
type Notice struct {
	Kind string `json:"kind"`
	// Ends is when the machine goes, by the host's clock; zero if that was not
	// said.
	Ends time.Time `json:"ends,omitzero"`
}
