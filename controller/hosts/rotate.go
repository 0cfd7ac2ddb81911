package hosts

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"dstack/protocol/hostapi"
	"dstack/sshlink"
)

// The first host key of a rented machine came with its user-data, which
// whoever reaches the machine's metadata address can read. So it is good for
// the first contact alone:
//
//	pinned         the machine has
//	first          first
//	first          first, and a next one that it does not use yet
//	first, next    first or next
//	next           next
//
// A server or machine that dies in between goes on where it was: what is
// pinned always holds the key that the machine shows.

// rotateTimeout bounds one try to replace a host key.
const rotateTimeout = time.Minute

// replaceKey replaces the first host key, trying again until ctx ends.
func (h *host) replaceKey(ctx context.Context, c *connection) {
	for n := 0; ctx.Err() == nil; n++ {
		err := h.rotate(ctx, c)
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			h.log.Warn().Err(err).Msg("host key not replaced")
		}
		_ = sleep(ctx, double(time.Second, n, time.Minute)) // the loop looks
	}
}

// rotate takes all steps that are left.
func (h *host) rotate(ctx context.Context, c *connection) error {
	ctx, cancel := context.WithTimeout(ctx, rotateTimeout)
	defer cancel()
	t := h.current()
	first := t.firstKey()
	if first == "" || c.under == nil {
		return nil
	}
	var next hostapi.HostKey
	if err := c.call(ctx, http.MethodPost, "/v1/host-key", nil, &next); err != nil {
		return fmt.Errorf("ask for a new host key: %w", err)
	}
	if err := sshlink.CheckKey(next.Public); err != nil {
		return fmt.Errorf("new host key: %w", err)
	}
	if !slices.Contains(t.HostKeys, next.Public) {
		if err := h.keep(ctx, append(slices.Clone(t.HostKeys), next.Public)); err != nil {
			return err
		}
	}
	if err := c.call(ctx, http.MethodPost, "/v1/host-key/use", next, nil); err != nil {
		return fmt.Errorf("have the new host key used: %w", err)
	}
	// The first connection with it.
	t.HostKeys = []string{next.Public}
	client, _, err := dialSSH(ctx, t)
	if err != nil {
		return fmt.Errorf("look at the new host key: %w", err)
	}
	_ = client.Close() // it has shown what it was asked for
	return h.pin(ctx, []string{next.Public})
}

// pin keeps host keys that were seen for the first time, and drops the one
// that came with the user-data once the machine shows another.
func (h *host) pin(ctx context.Context, seen []string) error {
	t := h.current()
	first := t.firstKey()
	switch {
	case len(t.HostKeys) < len(seen):
		return h.keep(ctx, seen)
	case first != "" && !slices.Contains(seen, first):
		if err := h.keep(ctx, slices.DeleteFunc(slices.Clone(t.HostKeys), func(k string) bool { return k == first })); err != nil {
			return err
		}
		h.log.Info().Msg("host key replaced")
	}
	return nil
}

// keep stores which host keys are pinned, then goes by it.
func (h *host) keep(ctx context.Context, keys []string) error {
	if err := h.pool.opt.Observer.HostKeyPinned(ctx, h.id, keys); err != nil {
		return fmt.Errorf("store host key: %w", err)
	}
	h.change(func(h *host) { h.target.HostKeys = keys })
	return nil
}
