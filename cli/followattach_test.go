package cli

import (
	"testing"

	"dstack/cli/tunnel"
	"dstack/protocol/api"
)

// TestLateAttach gives back the ports that were taken for a submission which
// had ended meanwhile, but none that are held for the next one.
func TestLateAttach(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	wants := []tunnel.Want{{Local: port, Remote: 8000}}
	listen := func() *tunnel.Listeners {
		ports, err := tunnel.Listen(t.Context(), "", wants)
		if err != nil {
			t.Fatal(err)
		}
		return ports
	}
	f := &follower{run: api.Run{}, logOf: "next"}
	if err := f.connected(t.Context(), attachResult{submission: "first", ports: listen()}); err != nil {
		t.Fatal(err)
	}
	held := listen()
	defer held.Close()
	f.attach.ports = held
	if err := f.connected(t.Context(), attachResult{submission: "first", ports: held}); err != nil {
		t.Fatal(err)
	}
	if _, err := tunnel.Listen(t.Context(), "", wants); err == nil {
		t.Error("held ports were given back")
	}
}
