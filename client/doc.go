// Package client calls the REST API of a dstack server, ours or 0.22.5.
package client
