package docker

import (
	"context"
	"errors"
	"strings"
	"testing"

	"dstack/protocol/hostapi"
	"dstack/shim/metadata"
	"dstack/shim/workload"
)

type guard struct {
	err  error
	seen metadata.Engine
}

func (g *guard) Keep(_ context.Context, e metadata.Engine) (string, error) {
	g.seen = e
	return "dstack.slice", g.err
}

func TestKeepAway(t *testing.T) {
	engine := metadata.Engine{Driver: "systemd", Version: "2"}
	broken := errors.New("no iptables")
	for _, c := range []struct {
		name   string
		guard  *guard
		asks   bool
		parent string
		fails  bool
	}{
		{"rented", &guard{}, false, "dstack.slice", false},
		{"asked for", &guard{}, true, "", false},
		{"not rented", nil, false, "", false},
		{"cannot be", &guard{err: broken}, false, "", true},
		{"need not be", &guard{err: broken}, true, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Runtime{groups: engine}
			if c.guard != nil {
				r.cfg.Guard = c.guard
			}
			var q request
			err := r.keepAway(t.Context(), workload.Task{Spec: hostapi.TaskSpec{Metadata: c.asks}}, &q)
			var start *workload.StartError
			if errors.As(err, &start) != c.fails || q.hostCfg.CgroupParent != c.parent {
				t.Errorf("parent %q, %v", q.hostCfg.CgroupParent, err)
			}
			if c.fails && !strings.Contains(start.Message, "DSTACK_INSTANCE_METADATA=1") {
				t.Errorf("message %q", start.Message)
			}
			if c.parent != "" && c.guard.seen != engine {
				t.Errorf("engine %+v", c.guard.seen)
			}
		})
	}
}
