package api

import "dstack/protocol/config"

// GetUpstreamRequest is the body of sshproxy/get_upstream: the id of a job
// submission in any form.
type GetUpstreamRequest struct {
	ID string `json:"id"`
}

// Upstream is how an SSH proxy reaches a running job: hop by hop.
type Upstream struct {
	Hosts          config.List[UpstreamHost] `json:"hosts"`
	AuthorizedKeys config.List[string]       `json:"authorized_keys"`
}

// UpstreamHost is one hop, seen from the one before.
type UpstreamHost struct {
	Host       string `json:"host"`
	Port       int    `json:"port"`
	User       string `json:"user"`
	PrivateKey string `json:"private_key"`
}
