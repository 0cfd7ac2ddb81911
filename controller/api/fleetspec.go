package api

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"dstack/controller/engine"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// resourceName is what runs and fleets may be called.
var resourceName = regexp.MustCompile(`^[a-z][a-z0-9-]{1,40}$`)

func checkName(name string) error {
	if !resourceName.MatchString(name) {
		return refuse("Resource name should match regex '%s'", resourceName)
	}
	return nil
}

// mostNodes bounds how many instances one request makes.
const mostNodes = 1000

// checkFleet applies the rules of spec configuration.md 10.1 and returns the
// hosts of an SSH fleet. A fleet whose keys were stripped fails: only what a
// user sent can be checked.
func checkFleet(spec *api.FleetSpec) ([]engine.NewHost, error) {
	c := &spec.Configuration
	if c.Name != nil {
		if err := checkName(*c.Name); err != nil {
			return nil, err
		}
	}
	switch {
	case c.SSHConfig == nil && c.Nodes == nil:
		return nil, refuse("No ssh_config or nodes specified")
	case c.SSHConfig != nil && c.Nodes != nil:
		return nil, refuse("ssh_config and nodes are mutually exclusive")
	case c.SSHConfig == nil && len(c.Env) > 0:
		return nil, refuse("Backend fleet configuration does not support the following fields: ['env']")
	case c.SSHConfig == nil && c.Nodes.Target > mostNodes:
		return nil, refuse("A fleet may be created with %d nodes at most, got %d", mostNodes, c.Nodes.Target)
	case c.SSHConfig == nil:
		return nil, nil
	}
	if fields := cloudFields(c); len(fields) > 0 {
		return nil, refuse("SSH fleet configuration does not support the following fields: ['%s']", strings.Join(fields, "', '"))
	}
	hosts, err := fleetHosts(c)
	if err != nil {
		return nil, err
	}
	return hosts, checkAddresses(c.SSHConfig, hosts)
}

// cloudFields lists the fields of a cloud fleet that are set in an SSH fleet.
func cloudFields(c *config.Fleet) []string {
	var out []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"reservation", c.Reservation != nil},
		{"resources", c.Resources != nil},
		{"backends", c.Backends != nil},
		{"regions", c.Regions != nil},
		{"availability_zones", c.AvailabilityZones != nil},
		{"instance_types", c.InstanceTypes != nil},
		{"spot_policy", c.SpotPolicy != nil},
		{"retry", c.Retry != nil},
		{"max_price", c.MaxPrice != nil},
		{"idle_duration", c.IdleDuration != nil},
		{"tags", c.Tags != nil},
		{"backend_options", c.BackendOptions != nil},
	} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return out
}

// fleetHosts fills in for each host what ssh_config says for all.
func fleetHosts(c *config.Fleet) ([]engine.NewHost, error) {
	all := c.SSHConfig
	env := c.Env.Values()
	var hosts []engine.NewHost
	seen := map[string]bool{}
	for i := range all.Hosts {
		h := &all.Hosts[i]
		if seen[h.Hostname] {
			return nil, refuse("ssh_config.hosts: %s is listed twice", h.Hostname)
		}
		seen[h.Hostname] = true
		key, err := privateKey(first(h.SSHKey, all.SSHKey), "host "+h.Hostname)
		if err != nil {
			return nil, err
		}
		user := first(h.User, all.User)
		if user == nil || *user == "" {
			return nil, refuse("No ssh user specified for host %s", h.Hostname)
		}
		jump, err := jumpOf(first(h.ProxyJump, all.ProxyJump))
		if err != nil {
			return nil, err
		}
		blocks := h.Blocks
		if blocks == (config.Blocks{}) {
			blocks = c.Blocks
		}
		hosts = append(hosts, engine.NewHost{Hostname: h.Hostname, Blocks: blocks, Access: store.Access{
			Host: h.Hostname, Port: deref(first(h.Port, all.Port), 22), User: *user, Keys: []string{key}, Jump: jump,
			Env: env, Internal: deref(h.InternalIP, ""), Network: deref(all.Network, ""),
		}})
	}
	return hosts, nil
}

func jumpOf(p *config.SSHProxy) (*store.Jump, error) {
	if p == nil {
		return nil, nil //nolint:nilnil // no jump host is no error
	}
	key, err := privateKey(p.SSHKey, "proxy jump "+p.Hostname)
	if err != nil {
		return nil, err
	}
	return &store.Jump{Host: p.Hostname, Port: deref(p.Port, 22), User: p.User, Keys: []string{key}}, nil
}

// privateKey demands a key that the server can use without asking anybody.
func privateKey(k *config.SSHKey, owner string) (string, error) {
	if k == nil || k.Private == nil || *k.Private == "" {
		return "", refuse("No ssh key specified for %s", owner)
	}
	signer, err := ssh.ParsePrivateKey([]byte(*k.Private))
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return "", refuse("The ssh key for %s is encrypted with a passphrase. Use a key without one", owner)
	}
	if err != nil || signer.PublicKey().Type() == ssh.InsecureKeyAlgoDSA { //nolint:staticcheck // named to be refused
		return "", refuse("Unsupported key type. The key for %s should be RSA, ECDSA, or Ed25519 and should not be encrypted with passphrase", owner)
	}
	return *k.Private, nil
}

func checkAddresses(c *config.SSHParams, hosts []engine.NewHost) error {
	given := 0
	for _, h := range hosts {
		if h.Access.Internal != "" {
			given++
		}
	}
	switch {
	case given > 0 && c.Network != nil:
		return refuse("internal_ip is mutually exclusive with network")
	case given > 0 && given < len(hosts):
		return refuse("internal_ip must be specified for all hosts")
	}
	return nil
}

// first returns the first that is set.
func first[T any](options ...*T) *T {
	for _, o := range options {
		if o != nil {
			return o
		}
	}
	return nil
}

// fleetChange is what an update in place would do to an SSH fleet.
type fleetChange struct {
	add    []engine.NewHost
	remove []string // hostnames
}

// nodeFields are what may change in a cloud fleet in place.
func nodeFields() []string {
	return []string{
		"nodes", "reservation", "tags", "resources", "backends", "regions", "availability_zones", "instance_types", "spot_policy", "max_price",
	}
}

// diffFleet says what changes between a fleet and a specification, or why the
// change is not possible in place (spec: rest-api.md 9.3). instances are those
// of the fleet, hosts those of the specification.
func diffFleet(old, updated *api.FleetSpec, instances []store.Instance, hosts []engine.NewHost) (fleetChange, error) {
	a, b := stripFleet(*old), stripFleet(*updated)
	if fields := changed(a, b); !only(fields, "configuration", "configuration_path") {
		// What follows from both is a field of its own in 0.22.5.
		if slices.Contains(fields, "profile") {
			fields = append(fields, "merged_profile")
		}
		return fleetChange{}, cannotUpdate(fields, "configuration", "configuration_path", "merged_profile")
	}
	was, is := a.Configuration.SSHConfig, b.Configuration.SSHConfig
	fields := changed(a.Configuration, b.Configuration)
	switch {
	case was == nil && is != nil:
		return fleetChange{}, refuse("Fleet type changed from Cloud to SSH, cannot update")
	case was != nil && is == nil:
		return fleetChange{}, refuse("Fleet type changed from SSH to Cloud, cannot update")
	case was == nil:
		if !only(fields, nodeFields()...) {
			return fleetChange{}, cannotUpdate(fields, nodeFields()...)
		}
		return fleetChange{}, nil
	case !only(fields, "ssh_config"):
		return fleetChange{}, cannotUpdate(fields, "ssh_config")
	}
	if fields := changed(*was, *is); !only(fields, "hosts") {
		return fleetChange{}, cannotUpdate(fields, "hosts")
	}
	return diffHosts(was.Hosts, is.Hosts, instances, hosts)
}

func diffHosts(old, updated []config.SSHHost, instances []store.Instance, hosts []engine.NewHost) (fleetChange, error) {
	var change fleetChange
	was := map[string]config.SSHHost{}
	for _, h := range old {
		was[h.Hostname] = h
	}
	var other []string
	for i, h := range updated {
		o, known := was[h.Hostname]
		delete(was, h.Hostname)
		if !known {
			change.add = append(change.add, hosts[i])
			continue
		}
		// The path of a key means nothing here, and a bare name is a host too.
		o.IdentityFile, h.IdentityFile, o.Plain, h.Plain = nil, nil, false, false
		if len(changed(o, h)) > 0 || otherKeys(instances, hosts[i]) {
			other = append(other, h.Hostname)
		}
	}
	if len(other) > 0 {
		return fleetChange{}, refuse("Hosts configuration changed, cannot update: [%s]", quoted(other))
	}
	for name := range was {
		change.remove = append(change.remove, name)
	}
	slices.Sort(change.remove)
	return change, nil
}

// otherKeys says whether a host would be reached with other keys than now:
// they are not in the specification that is stored.
func otherKeys(instances []store.Instance, h engine.NewHost) bool {
	for _, in := range instances {
		if in.Hostname != h.Hostname {
			continue
		}
		var was, is []string
		if in.Access.Jump != nil {
			was = in.Access.Jump.Keys
		}
		if h.Access.Jump != nil {
			is = h.Access.Jump.Keys
		}
		return !slices.Equal(in.Access.Keys, h.Access.Keys) || !slices.Equal(was, is)
	}
	return false
}

func cannotUpdate(fields []string, allowed ...string) error {
	return refuse("Failed to update fields [%s]. Can only update [%s].", quoted(fields), quoted(allowed))
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = fmt.Sprintf("'%s'", w)
	}
	return strings.Join(out, ", ")
}

// only says whether every field is one of allowed.
func only(fields []string, allowed ...string) bool {
	return !slices.ContainsFunc(fields, func(f string) bool { return !slices.Contains(allowed, f) })
}
