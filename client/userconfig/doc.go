// Package userconfig reads and writes a user's own files: ~/.dstack/config.yml
// with the servers and tokens, and profiles.yml.
package userconfig
