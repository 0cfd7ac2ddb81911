package controller

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	registryTimeout = time.Second
	// registryMemory is how long an answer holds: plans come in bursts.
	registryMemory = time.Minute
	dockerHub      = "registry-1.docker.io"
)

// registries remembers which image registries answer.
type registries struct {
	// fallback is the registry of images that name none.
	fallback string
	now      func() time.Time
	client   *http.Client

	mu   sync.Mutex
	seen map[string]registryAnswer
}

type registryAnswer struct {
	at  time.Time
	err error
}

// newRegistries knows the server's default registry; empty means Docker Hub.
func newRegistries(fallback string, now func() time.Time) *registries {
	fallback, _, _ = strings.Cut(fallback, "/")
	if fallback == "" {
		fallback = dockerHub
	}
	return &registries{fallback: fallback, now: now, client: &http.Client{Timeout: registryTimeout, CheckRedirect: stay}, seen: map[string]registryAnswer{}}
}

// Reachable implements [api.Registries]: any answer of the registry will do.
func (r *registries) Reachable(ctx context.Context, image string) error {
	host := registryOf(image, r.fallback)
	r.mu.Lock()
	answer, ok := r.seen[host]
	r.mu.Unlock()
	if ok && r.now().Sub(answer.at) < registryMemory {
		return answer.err
	}
	err := r.ask(ctx, host)
	if ctx.Err() != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) > 1000 {
		clear(r.seen)
	}
	r.seen[host] = registryAnswer{at: r.now(), err: err}
	return err
}

func (r *registries) ask(ctx context.Context, host string) error {
	scheme := "https"
	if name, _, _ := strings.Cut(host, ":"); name == "localhost" || name == localAddress {
		scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+"/v2/", http.NoBody)
	if err != nil {
		return fmt.Errorf("ask %s: %w", host, err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from %s", host)
	}
	// Only that it answered matters.
	_ = resp.Body.Close()
	return nil
}

// registryOf is the host of an image's registry; fallback is that of an image
// without one.
func registryOf(image, fallback string) string {
	first, _, nested := strings.Cut(image, "/")
	if !nested || !strings.ContainsAny(first, ".:") && first != "localhost" {
		return fallback
	}
	if first == "docker.io" || first == "index.docker.io" {
		return dockerHub
	}
	return first
}

// stay follows no redirect: a redirect is an answer, and where it leads to is
// the registry's choice.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
