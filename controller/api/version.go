package api

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"dstack/protocol/version"
)

// versionHeader carries the client's version.
const versionHeader = "X-API-VERSION"

// clientVersion is a client's release number; the zero value is a client that
// sent none, or asked for the newest, and gets no patches.
type clientVersion struct {
	sent    bool
	release [3]int
}

// pep440 is a version as Python packages have them; group 1 is the release.
var pep440 = regexp.MustCompile(`(?i)^\s*v?(?:\d+!)?(\d+(?:\.\d+)*)` +
	`(?:[-_.]?(?:a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?` +
	`(?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?` +
	`(?:[-_.]?dev[-_.]?\d*)?` +
	`(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?\s*$`)

// parseVersion reads the version header; ok is false if it is malformed.
func parseVersion(s string) (v clientVersion, ok bool) {
	if s == "" || s == "latest" || strings.HasPrefix(s, "0.0.0") {
		return clientVersion{}, true
	}
	m := pep440.FindStringSubmatch(s)
	if m == nil {
		return clientVersion{}, false
	}
	v.sent = true
	for i, part := range strings.SplitN(m[1], ".", 4) {
		if i == len(v.release) {
			break
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			return clientVersion{}, false
		}
		v.release[i] = n
	}
	return v, true
}

// before says whether the client is older than the release; a client that
// sent no version is not.
func (v clientVersion) before(major, minor, patch int) bool {
	if !v.sent {
		return false
	}
	for i, n := range [3]int{major, minor, patch} {
		if v.release[i] != n {
			return v.release[i] < n
		}
	}
	return false
}

// checkVersion refuses a malformed version and one that is newer than ours by
// its major or minor number (spec: rest-api.md 5).
func checkVersion(header string) (clientVersion, error) {
	v, ok := parseVersion(header)
	if !ok {
		return v, &Error{Status: http.StatusBadRequest, Msg: "Invalid version: " + header}
	}
	server, _ := parseVersion(version.Compatible)
	s := server.release
	newer := v.sent && !v.before(s[0], s[1], s[2]+1)
	if newer && (v.release[0] > s[0] || v.release[1] > s[1]) {
		return v, refuse("The client/CLI version (%s) is incompatible with the server version (%s).", header, version.Compatible)
	}
	return v, nil
}
