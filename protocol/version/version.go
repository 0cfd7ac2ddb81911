// Package version holds the two versions of this build: its own, and the one
// of dstack whose wire format and command line it keeps to.
package version

const (
	// Version is our own version, as `dstack --version` prints it.
	Version = "0.1.0"
	// Compatible is the dstack release that we are wire-compatible with. It
	// goes into the X-API-VERSION header and into server/get_info.
	Compatible = "0.22.5"
)
