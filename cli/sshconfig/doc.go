// Package sshconfig keeps what the user's own ssh, IDEs and rsync need while
// dstack is attached: Host blocks in ~/.dstack/ssh/config, and an Include of
// that file in ~/.ssh/config (spec: cli.md 12.4 and 15).
//
// What is not ours stays as it is, byte for byte. Files are written aside and
// renamed under the lock files that dstack 0.22.5 takes, too, so both can work
// on the same files at once. A block names the process it belongs to; one
// whose process is gone is removed by the next [Open].
package sshconfig
