//go:build e2e

package cloudlab

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"dstack/test/cloudlab/moto"
)

// orders answers moto's hook and people who try faults by hand:
//
//	POST /fault      {"action": "RunInstances", "code": "InsufficientInstanceCapacity", "status": 500, "times": 3}
//	POST /boot       {"never": true} or {"seconds": 20} or {"user_data": "..."}: the next machine
//	POST /quota      {"code": "L-1216C47A", "value": 8}
//	POST /interrupt  {"id": "i-...", "seconds": 120}
//	POST /rebalance  {"id": "i-..."}
//	POST /reclaim    {"id": "i-..."}
//	POST /machines   {}
func (c *Cloud) orders() http.Handler {
	mux := http.NewServeMux()
	handle(mux, "/hook/address", func(context.Context, struct{}) (any, error) {
		return map[string]string{"address": c.freeAddress()}, nil
	})
	handle(mux, "/hook/run", c.ran)
	handle(mux, "/hook/end", func(_ context.Context, o order) (any, error) {
		m, err := c.machine(o.ID)
		if err == nil && c.advance(m, stopping) {
			c.work.Go(func() { c.report(c.end(m, "", "")) })
		}
		return nil, err
	})
	handle(mux, "/hook/attach", func(ctx context.Context, a attachment) (any, error) { return nil, c.attach(ctx, a) })
	handle(mux, "/hook/detach", c.asked)
	handle(mux, "/hook/delete", func(ctx context.Context, a attachment) (any, error) { return nil, c.deleteVolume(ctx, a.Volume) })
	handle(mux, "/fault", func(_ context.Context, f moto.Fault) (any, error) { return nil, c.Fault(f) })
	handle(mux, "/boot", func(_ context.Context, b Boot) (any, error) { c.NextBoot(b); return nil, nil })
	handle(mux, "/quota", func(_ context.Context, q struct {
		Code  string
		Value int
	}) (any, error) {
		return nil, c.Quota(q.Code, q.Value)
	})
	handle(mux, "/interrupt", func(_ context.Context, o order) (any, error) {
		return nil, c.Interrupt(o.ID, time.Duration(o.Seconds)*time.Second)
	})
	handle(mux, "/rebalance", func(_ context.Context, o order) (any, error) { return nil, c.Rebalance(o.ID) })
	handle(mux, "/reclaim", func(_ context.Context, o order) (any, error) { return nil, c.Reclaim(o.ID) })
	handle(mux, "/machines", func(context.Context, struct{}) (any, error) { return c.table(), nil })
	return mux
}

// order concerns one machine.
type order struct {
	ID      string `json:"id"`
	Seconds int    `json:"seconds"`
}

func (c *Cloud) ran(ctx context.Context, in struct {
	ID       string `json:"id"`
	Region   string `json:"region"`
	Zone     string `json:"zone"`
	Type     string `json:"type"`
	Address  string `json:"address"`
	UserData []byte `json:"user_data"`
	Spot     bool   `json:"spot"`
	Hops     int    `json:"hops"`
}) (any, error) {
	m := &Machine{ID: in.ID, Region: in.Region, Zone: in.Zone, Type: in.Type, Spot: in.Spot, UserData: string(in.UserData), hops: in.Hops}
	return nil, c.run(ctx, in.Address, m)
}

func (c *Cloud) table() []map[string]any {
	out := []map[string]any{}
	for _, m := range c.Machines() {
		c.mu.Lock()
		out = append(out, map[string]any{"id": m.ID, "state": m.state, "address": m.Host.IP, "type": m.Type, "zone": m.Zone, "spot": m.Spot})
		c.mu.Unlock()
	}
	return out
}

// handle answers POST with JSON.
func handle[In any](mux *http.ServeMux, path string, do func(context.Context, In) (any, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := do(r.Context(), in)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if out == nil {
			out = struct{}{}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	})
}
