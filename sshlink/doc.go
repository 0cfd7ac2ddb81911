// Package sshlink opens SSH connections for the parts of dstack that reach
// hosts: with keys, an optional jump host, pinned host keys, and keep-alives
// that notice a dead peer within seconds. It starts no `ssh` process.
package sshlink
