// Package decode turns YAML and JSON documents into Go values with the
// coercions of dstack 0.22.5 and with errors that say where and what
// (spec: configuration.md 1). Packages config and api describe their types
// with its readers; nothing in it knows what a task is.
package decode
