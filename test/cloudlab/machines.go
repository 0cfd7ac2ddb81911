//go:build e2e

package cloudlab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dstack/test/lab"
)

// state is that of an instance, in AWS's words.
type state string

const (
	pending  state = "pending"
	running  state = "running"
	stopping state = "shutting-down"
	gone     state = "terminated"
)

// codes are AWS's numbers for them.
var codes = map[state]int{pending: 0, running: 16, stopping: 32, gone: 48}

// Machine is an instance.
type Machine struct {
	ID, Region, Zone, Type string
	Spot                   bool
	// Host is the lab machine behind it.
	Host *lab.Machine
	// UserData is what cloud-init gets, without base64.
	UserData string
	// hops is how far an answer of the metadata address may travel.
	hops  int
	state state
	// interrupted is when the cloud takes it back, rebalance when it was
	// recommended to move; zero if neither.
	interrupted, rebalance time.Time
}

// Boot is how the next machine behaves.
type Boot struct {
	// Never leaves the machine switched off, although the API says that it runs.
	Never bool `json:"never"`
	// Seconds is how long it takes until it is switched on.
	Seconds int `json:"seconds"`
	// UserData takes the place of the request's, if it is not empty.
	UserData string `json:"user_data"`
}

// NextBoot sets the behaviour of machines to come, one after the other; those
// behind them boot as usual.
func (c *Cloud) NextBoot(boots ...Boot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boots = append(c.boots, boots...)
}

// Machines are those for which an account pays: all that are not gone.
func (c *Cloud) Machines() []*Machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*Machine
	for _, m := range c.machines {
		if m.state != gone {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(x, y *Machine) int { return strings.Compare(x.ID, y.ID) })
	return out
}

// Rented is how many machines there ever were.
func (c *Cloud) Rented() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.machines)
}

// firstAddress is above those of lab machines.
const firstAddress = 100

// freeAddress is the one that the next machine gets.
func (c *Cloud) freeAddress() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := firstAddress; ; n++ {
		ip := fmt.Sprintf("%s%d", strings.TrimSuffix(lab.Gateway, "1"), n)
		used := false
		for _, m := range c.machines {
			used = used || m.state != gone && m.Host.IP == ip
		}
		if !used {
			return ip
		}
	}
}

// run makes a machine and lets it boot.
func (c *Cloud) run(ctx context.Context, address string, m *Machine) (err error) {
	name := strings.ReplaceAll(m.ID, "-", "")
	m.state = pending
	m.Host, err = c.lab.Rack(ctx, name, address, c.image, "--hostname", hostname(address), "--device-cgroup-rule", "b 7:* rwm")
	if err != nil {
		return err
	}
	var plan Boot
	c.mu.Lock()
	c.machines[m.ID] = m
	if len(c.boots) > 0 {
		plan, c.boots = c.boots[0], c.boots[1:]
	}
	c.mu.Unlock()
	if plan.UserData != "" {
		m.UserData = plan.UserData
	}
	c.work.Go(func() {
		if err := c.boot(m, plan); err != nil && !c.ending(m) {
			c.report(err)
		}
	})
	return nil
}

func (c *Cloud) boot(m *Machine, plan Boot) error {
	if err := c.seed(m); err != nil {
		return err
	}
	if !pause(c.ctx, time.Duration(plan.Seconds)*time.Second) || !c.advance(m, running) {
		return nil
	}
	if !plan.Never {
		if err := m.Host.Power(c.ctx); err != nil {
			return err
		}
	}
	return c.tell(m, "", "")
}

func hostname(ip string) string { return "ip-" + strings.ReplaceAll(ip, ".", "-") }

// seed gives cloud-init its data.
func (c *Cloud) seed(m *Machine) error {
	dir := filepath.Join(c.dir, "seed-"+m.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make seed: %w", err)
	}
	meta := fmt.Sprintf("instance-id: %s\nlocal-hostname: %s\n", m.ID, hostname(m.Host.IP))
	for name, text := range map[string]string{"user-data": m.UserData, "meta-data": meta} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write seed: %w", err)
		}
	}
	return m.Host.Put(c.ctx, dir, "/var/lib/cloud/seed/nocloud")
}

// advance moves a machine on; a state that is behind the present one is refused.
func (c *Cloud) advance(m *Machine, to state) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if codes[to] <= codes[m.state] {
		return false
	}
	m.state = to
	return true
}

// ending says that a machine has its end before it or behind it.
func (c *Cloud) ending(m *Machine) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return codes[m.state] >= codes[stopping]
}

// tell lets the API show what became of a machine; why is AWS's code.
func (c *Cloud) tell(m *Machine, why, message string) error {
	c.mu.Lock()
	now := m.state
	c.mu.Unlock()
	address := m.Host.IP
	if now != running {
		address = ""
	}
	return c.double.Tell("state", map[string]any{
		"id": m.ID, "state": now, "code": codes[now], "address": address, "why": why, "message": message,
	})
}

// end removes a machine after the API was asked to.
func (c *Cloud) end(m *Machine, why, message string) error {
	for _, v := range c.attachedTo(m) {
		if err := c.detach(c.ctx, v, true); err != nil {
			return err
		}
	}
	if err := m.Host.Remove(); err != nil {
		return err
	}
	c.advance(m, gone)
	return c.tell(m, why, message)
}

// Reclaim takes a spot machine back at once.
func (c *Cloud) Reclaim(id string) error {
	m, err := c.machine(id)
	if err != nil {
		return err
	}
	if !c.advance(m, stopping) {
		return nil
	}
	const why, message = "Server.SpotInstanceTermination", "Server.SpotInstanceTermination: Spot instance termination"
	if err := c.tell(m, why, message); err != nil {
		return err
	}
	return c.end(m, why, message)
}

// Interrupt tells a spot machine by its metadata address that it is taken
// back after a time (AWS: two minutes), and does so.
func (c *Cloud) Interrupt(id string, after time.Duration) error {
	m, err := c.machine(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	m.interrupted = time.Now().Add(after)
	c.mu.Unlock()
	c.work.Go(func() {
		if pause(c.ctx, after) {
			c.report(c.Reclaim(id))
		}
	})
	return nil
}

// Rebalance recommends to a spot machine to move.
func (c *Cloud) Rebalance(id string) error {
	m, err := c.machine(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	m.rebalance = time.Now()
	c.mu.Unlock()
	return nil
}

func (c *Cloud) machine(id string) (*Machine, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.machines[id]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("there is no machine %s", id)
}

// pause waits and says whether the context still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
