package api

// AuthorizeRequest begins a login through a provider (auth/{provider}/authorize).
// The provider sends a browser back to LocalPort of this machine, or to BaseURL.
type AuthorizeRequest struct {
	LocalPort *int    `json:"local_port"`
	BaseURL   *string `json:"base_url,omitempty"`
}

// AuthorizeResponse is where the user logs in.
type AuthorizeResponse struct {
	AuthorizationURL string `json:"authorization_url"`
}

// AuthCallbackRequest ends a login (auth/{provider}/callback); the answer is a
// UserWithCreds.
type AuthCallbackRequest struct {
	Code    string  `json:"code"`
	State   string  `json:"state"`
	BaseURL *string `json:"base_url"`
}
