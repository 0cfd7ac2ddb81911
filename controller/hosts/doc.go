// Package hosts keeps one live connection to the shim of each instance,
// deploys the shim where it is missing or old, and carries tasks, events and
// logs across. It decides nothing: the engine says which hosts and tasks
// there are to be, and is told what was seen.
package hosts
