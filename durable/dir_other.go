//go:build !unix

package durable

// SyncDir does nothing: where a folder can't be synced, as on Windows, its
// names are in the file system's journal.
func SyncDir(string) error { return nil }
