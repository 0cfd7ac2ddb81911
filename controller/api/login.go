package api

import (
	"context"
	"encoding/base64"
	"net/url"
	"strconv"

	"dstack/protocol/api"
)

// loginState is what a login carries through another site and back
// (spec: rest-api.md 2, "SSO").
type loginState struct {
	Value     string `json:"value"`
	LocalPort *int   `json:"local_port,omitempty"`
}

// listProviders says by which other sites one may log in: none.
func (a *API) listProviders(context.Context, call, noBody) ([]api.OAuthProviderInfo, error) {
	return []api.OAuthProviderInfo{}, nil
}

// getNextRedirect sends a login that a CLI began back to it.
func (a *API) getNextRedirect(_ context.Context, _ call, in api.NextRedirectRequest) (api.NextRedirect, error) {
	const maxPort = 65535
	invalid := refuse("Invalid state token")
	data, err := base64.StdEncoding.DecodeString(in.State)
	if err != nil {
		return api.NextRedirect{}, invalid
	}
	state, err := api.DecodeRequest[loginState](data)
	if err != nil {
		return api.NextRedirect{}, invalid
	}
	port := state.LocalPort
	if port == nil {
		return api.NextRedirect{}, nil
	}
	if *port < 1 || *port > maxPort {
		return api.NextRedirect{}, invalid
	}
	query := "code=" + url.QueryEscape(in.Code) + "&state=" + url.QueryEscape(in.State)
	return api.NextRedirect{RedirectURL: new("http://localhost:" + strconv.Itoa(*port) + "/auth/callback?" + query)}, nil
}
