package store

import (
	"net/url"
	"strings"
)

// What differs between SQLite and other databases is in this file and in
// migrations/.

// inList is the condition "col is one of ?", whose argument is a JSON array.
func inList(col string) string { return col + " IN (SELECT value FROM json_each(?))" }

const (
	beginRead  = "BEGIN"
	beginWrite = "BEGIN IMMEDIATE"
)

// dataSource is what the driver opens; an empty path is a private database
// in memory. foreign_keys and synchronous are settings of a connection.
func dataSource(path string, replicated bool) string {
	pragmas := []string{"busy_timeout(5000)", "foreign_keys(1)", "synchronous(FULL)", "temp_store(MEMORY)"}
	if replicated {
		pragmas = append(pragmas, "wal_autocheckpoint(0)")
	}
	q := url.Values{"_pragma": pragmas}
	if path == "" {
		return "file::memory:?" + q.Encode()
	}
	return "file:" + strings.ReplaceAll((&url.URL{Path: path}).EscapedPath(), "//", "/") + "?" + q.Encode()
}
