// Package api holds the resources of the REST API, equal on the wire to
// dstack 0.22.5 (shared spec: rest-api.md, openapi-0.22.5.json).
package api
