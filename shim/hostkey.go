package shim

import (
	"context"
	"fmt"
	"net/http"

	"dstack/protocol/hostapi"
)

// HostKey replaces the key with which the host's SSH server proves who it is.
// Both steps may be repeated.
type HostKey interface {
	// Make is the public part of the key that is to be used next.
	Make(ctx context.Context) (public string, err error)
	// Use makes the SSH server use it.
	Use(ctx context.Context, public string) error
}

// handleHostKey serves the calls about the host key, where it is ours to
// replace.
func (m *Manager) handleHostKey(mux *http.ServeMux) {
	if m.cfg.HostKey == nil {
		return
	}
	mux.HandleFunc("POST /v1/host-key", m.answer(func(r *http.Request) (any, error) {
		public, err := m.cfg.HostKey.Make(r.Context())
		if err != nil {
			return nil, fmt.Errorf("make host key: %w", err)
		}
		return hostapi.HostKey{Public: public}, nil
	}))
	mux.HandleFunc("POST /v1/host-key/use", m.answer(func(r *http.Request) (any, error) {
		var key hostapi.HostKey
		if err := decode(r, &key); err != nil {
			return nil, err
		}
		if err := m.cfg.HostKey.Use(r.Context(), key.Public); err != nil {
			return nil, fmt.Errorf("use host key: %w", err)
		}
		m.cfg.Log.Info().Msg("host key replaced")
		return struct{}{}, nil
	}))
}
