package fake

import (
	"dstack/controller/backends"
)

// Fault is something that goes wrong in calls to the cloud.
type Fault struct {
	// Op is the call that it strikes: "create", "describe", "delete", "list",
	// "offers", "create volume", ...; empty is any.
	Op string
	// Region and MachineType restrict it; empty is any.
	Region, MachineType string
	// Times is how often it strikes; 0 is always.
	Times int
	// Lost lets the cloud act and loses its answer.
	Lost bool
	// Err is the error that the caller gets; with Lost its kind is Transient
	// if it has none.
	Err backends.Error

	struck int
}

// Inject adds a fault. Of several that fit a call, the one that was injected
// first strikes.
func (c *Cloud) Inject(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, &f)
}

// Heal takes all faults away.
func (c *Cloud) Heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
}

// strike counts a call and finds the fault that it meets, if any: before it
// acted, or (lost) after.
func (c *Cloud) strike(op, region, machineType string) (before, after error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[op]++
	for _, f := range c.faults {
		if f.Op != "" && f.Op != op || f.Region != "" && f.Region != region || f.MachineType != "" && f.MachineType != machineType {
			continue
		}
		if f.Times > 0 && f.struck >= f.Times {
			continue
		}
		f.struck++
		err := f.Err
		err.Backend, err.Op, err.Region = Type, op, region
		if f.Lost {
			if err.Kind == "" {
				err.Kind, err.Message = backends.Transient, "the connection was lost before the answer came"
			}
			return nil, &err
		}
		return &err, nil
	}
	return nil, nil
}
