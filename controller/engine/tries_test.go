package engine

import (
	"strings"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
)

// TestMostTries: no more offers are asked for than the server allows, though
// there are others.
func TestMostTries(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		r.stop()
		r.tries = 2
		r.start()
		r.cloud.Inject(refusal(backends.NoCapacity))
		f := r.fleet(0, 1, 1)
		time.Sleep(50 * time.Second) // before the fleet clears it away
		expect(t, "calls", r.cloud.Calls("create"), 2)
		if text := deref(r.instances(f)[0].ReasonMessage); !strings.Contains(text, "large: ") || strings.Contains(text, "gpus: ") {
			t.Errorf("the message is %q", text)
		}
		r.cloud.Heal()
		r.clear(f)
	})
}
