// Package config holds what users write: run, fleet and profile
// configurations with their mini-languages, and the server's config.yml.
package config
