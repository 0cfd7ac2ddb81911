// Package repo knows the Git repo that a run uses: what a URL or a working
// copy stands for, which credentials open it, and how a working copy differs
// from it (spec: cli.md 9).
package repo

import (
	"crypto/sha256"
	"fmt"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// URL is where a repo is. https and ssh lead to the same one.
type URL struct {
	// Host is the name or address; Alias is what the URL has, which
	// ~/.ssh/config may map to another host.
	Host, Alias string
	// SSHUser and SSHPort are those of an ssh URL, HTTPSPort that of an https
	// URL; empty and 0 mean the usual ones.
	SSHUser            string
	SSHPort, HTTPSPort int
	// Path starts with a slash.
	Path string
}

var scpForm = regexp.MustCompile(`^([^/@:]+)@([^/:]+):(.+)$`)

// ParseURL reads https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH.
// realHost maps a host of an ssh URL as ~/.ssh/config does.
func ParseURL(text string, realHost func(string) string) (URL, error) {
	source := text
	if m := scpForm.FindStringSubmatch(text); m != nil && !strings.Contains(text, "://") {
		source = "ssh://" + m[1] + "@" + m[2] + "/" + m[3]
	}
	u, err := url.Parse(source)
	scheme, _, absolute := strings.Cut(source, ":")
	switch {
	case err == nil && absolute && u.Scheme != "https" && u.Scheme != "ssh":
		return URL{}, fmt.Errorf("Unsupported URL scheme %s", strings.ToLower(scheme)) //nolint:staticcheck // the text of 0.22.5
	case err != nil, !absolute, u.Hostname() == "":
		return URL{}, fmt.Errorf("Could not parse git URL %s", text) //nolint:staticcheck // the text of 0.22.5
	}
	host := strings.ToLower(u.Hostname())
	out := URL{Host: host, Alias: host, Path: u.EscapedPath()}
	if !strings.HasPrefix(out.Path, "/") {
		out.Path = "/" + out.Path
	}
	port := 0
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil {
			return URL{}, fmt.Errorf("Could not parse git URL %s", text) //nolint:staticcheck // the text of 0.22.5
		}
	}
	if u.Scheme == "https" {
		if port != 443 {
			out.HTTPSPort = port
		}
		return out, nil
	}
	out.Host = realHost(u.Hostname())
	out.Alias, out.SSHPort, out.SSHUser = u.Hostname(), port, u.User.Username()
	return out, nil
}

// IsURL says whether text is meant as a URL, not as a path.
func IsURL(text string) bool {
	_, err := ParseURL(text, func(host string) string { return host })
	return err == nil
}

func withPort(host string, port int) string {
	if port == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(port)
}

// HTTPS is the URL for cloning over HTTPS.
func (u URL) HTTPS() string { return "https://" + withPort(u.Host, u.HTTPSPort) + u.Path }

// SSH is the URL for cloning over SSH.
func (u URL) SSH() string {
	user := u.SSHUser
	if user == "" {
		user = "git"
	}
	return "ssh://" + user + "@" + withPort(u.Host, u.SSHPort) + u.Path
}

// location names the repo, however it is reached.
func (u URL) location() string {
	return u.Host + strings.TrimSuffix(strings.TrimRight(u.Path, "/"), ".git")
}

// Name is the last part of the path.
func (u URL) Name() string {
	path := strings.TrimSuffix(strings.TrimRight(u.Path, "/"), ".git")
	if name := path[strings.LastIndexByte(path, '/')+1:]; name != "" {
		return name
	}
	return "unknown"
}

const (
	idDigits = 8
	// idWidth is how many digits of the hash are kept before the first
	// idDigits of them are taken.
	idWidth = 32
)

// ID is what the server knows the repo by: its name and 8 digits of a hash.
func (u URL) ID() string {
	sum := sha256.Sum256([]byte(u.location()))
	slices.Reverse(sum[:])
	digits := new(big.Int).SetBytes(sum[:]).Text(36)
	digits = strings.Repeat("0", max(idWidth-len(digits), 0)) + digits
	digits = digits[len(digits)-idWidth:]
	return u.Name() + "-" + digits[:idDigits]
}
