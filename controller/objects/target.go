package objects

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode"
)

// Schemes of targets. gs is Litestream's own name for gcs.
const (
	SchemeS3    = "s3"
	SchemeGCS   = "gcs"
	SchemeAzure = "abs"
)

// Target is where objects lie.
type Target struct {
	Scheme  string // s3, gcs or abs
	Account string // of Azure
	Bucket  string // or container
	Path    string // without slashes around it; may be empty
	// Query has settings of the storage: endpoint, region and, of a replica,
	// others of Litestream's.
	Query url.Values
	// Setting is the variable that names the bucket; empty: a URL does.
	Setting string
}

// Key is the name of one of the objects below the path.
func (t Target) Key(name string) string { return path.Join(t.Path, name) }

// String is the URL without its settings.
func (t Target) String() string {
	at := t.Bucket
	if t.Account != "" {
		at = t.Account + "@" + at
	}
	return strings.TrimSuffix(t.Scheme+"://"+at+"/"+t.Path, "/")
}

// Parse reads a URL. An error is a sentence without the
// variable's or the flag's name.
func Parse(text string) (Target, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Opaque != "" {
		return Target{}, errors.New("not a URL like s3://bucket/path, gcs://bucket/path or abs://account@container/path")
	}
	t := Target{Scheme: u.Scheme, Bucket: u.Host, Path: strings.Trim(path.Clean("/"+u.Path), "/"), Query: u.Query()}
	switch t.Scheme {
	case SchemeS3, SchemeGCS, SchemeAzure:
	case "gs":
		t.Scheme = SchemeGCS
	default:
		return Target{}, fmt.Errorf("scheme %q is not known: use s3://bucket/path, gcs://bucket/path or abs://account@container/path", t.Scheme)
	}
	if _, secret := u.User.Password(); secret {
		return Target{}, errors.New("a URL must not hold a password: give credentials by the variables of the storage")
	}
	if u.User != nil {
		t.Account = u.User.Username()
	}
	if (t.Account != "") != (t.Scheme == SchemeAzure) {
		if t.Scheme == SchemeAzure {
			return Target{}, errors.New("the account is missing: use abs://account@container/path")
		}
		return Target{}, fmt.Errorf("an account belongs to abs:// only: use %s://bucket/path", t.Scheme)
	}
	if t.Account != "" && !isBucketName(t.Account) {
		return Target{}, fmt.Errorf("%q is no name of an account", t.Account)
	}
	if !isBucketName(t.Bucket) {
		return Target{}, fmt.Errorf("%q is no name of a bucket or container", t.Bucket)
	}
	if strings.ContainsFunc(t.Path, unicode.IsControl) || strings.TrimSpace(t.Path) != t.Path {
		return Target{}, errors.New("the path holds control characters, or spaces at its ends")
	}
	return t, nil
}

// ParseContainer reads the URL of a container of Azure Blob Storage:
// https://ACCOUNT.blob.core.windows.net/CONTAINER, or with the account before
// the container, as emulators have it. An error is a sentence like Parse's.
func ParseContainer(text string) (Target, error) {
	const form = "not a URL like https://ACCOUNT.blob.core.windows.net/CONTAINER"
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return Target{}, errors.New(form)
	}
	if u.RawQuery != "" || u.User != nil {
		return Target{}, errors.New("the URL must not hold a token or a password: give credentials by " + azureKey + " or " + azureSAS)
	}
	endpoint := u.Scheme + "://" + u.Host
	account, _, _ := strings.Cut(u.Host, ".")
	box := strings.Trim(u.Path, "/")
	if first, rest, two := strings.Cut(box, "/"); two {
		account, box = first, rest
		endpoint += "/" + account
	}
	if !isBucketName(account) || !isBucketName(box) {
		return Target{}, errors.New(form)
	}
	return Target{Scheme: SchemeAzure, Account: account, Bucket: box, Query: url.Values{"endpoint": {endpoint}}}, nil
}

// isBucketName allows what any of the storages does; each of them says the
// rest itself.
func isBucketName(name string) bool {
	const inside = "-._"
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(inside, c) {
			return false
		}
	}
	return len(name) >= 2 && !strings.ContainsRune(inside, rune(name[0]))
}
