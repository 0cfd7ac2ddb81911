package config

import (
	"net/netip"
	"slices"
	"strings"

	"dstack/protocol/internal/decode"
)

// Values of placement.
const (
	PlacementAny     = "any"
	PlacementCluster = "cluster"
)

// ReadFleet reads `type: fleet` (spec: configuration.md 7).
func ReadFleet(v decode.Value) Fleet {
	o := v.Object()
	defer o.Done()
	readOwnType(o, TypeFleet)
	return Fleet{
		Type:              TypeFleet,
		Name:              decode.Field(o, "name", decode.Optional(decode.Text)),
		Placement:         decode.Field(o, "placement", decode.Optional(decode.Enum(PlacementAny, PlacementCluster))),
		Blocks:            decode.FieldOr(o, "blocks", Blocks{Count: 1}, readBlocks),
		Nodes:             decode.Field(o, "nodes", decode.Optional(readNodes)),
		Reservation:       decode.Field(o, "reservation", decode.Optional(decode.Text)),
		Resources:         decode.Field(o, "resources", decode.Optional(readResources)),
		Backends:          decode.Field(o, "backends", decode.OptionalList(decode.Enum(BackendTypes...))),
		Regions:           decode.Field(o, "regions", decode.OptionalList(decode.Text)),
		AvailabilityZones: decode.Field(o, "availability_zones", decode.OptionalList(decode.Text)),
		InstanceTypes:     decode.Field(o, "instance_types", decode.OptionalList(decode.Text)),
		SpotPolicy:        decode.Field(o, "spot_policy", decode.Optional(readSpotPolicy)),
		Retry:             decode.Field(o, "retry", decode.Optional(readRetry)),
		MaxPrice:          decode.Field(o, "max_price", decode.Optional(decode.Positive)),
		IdleDuration:      decode.Field(o, "idle_duration", readIdle),
		Tags:              decode.Field(o, "tags", readTags),
		BackendOptions:    decode.Field(o, "backend_options", readBackendOptions),
		SSHConfig:         decode.Field(o, "ssh_config", decode.Optional(readSSHParams)),
		Env:               decode.FieldOr(o, "env", Env{}, readEnv),
	}
}

func readBlocks(v decode.Value) Blocks {
	if v.Kind() == decode.String && v.Node().Text == "auto" {
		return Blocks{Auto: true}
	}
	count, ok := decode.Silent(v, decode.IntMin(1))
	if !ok {
		v.FailWire("greater_than_equal", "must be auto or an integer >= 1", "Input should be 'auto' or greater than or equal to 1", "")
	}
	return Blocks{Count: count}
}

const nodesForms = "N, A..B, A.., ..B or {min, target, max}"

// readNodes reads `nodes` of a cloud fleet. Unlike other ranges, a missing
// minimum is 0.
func readNodes(v decode.Value) FleetNodes {
	n := v.Node()
	var nodes FleetNodes
	var ok bool
	switch n.Kind {
	case decode.Int, decode.Bool, decode.String:
		nodes, ok = decode.Try(v, readNodesText)
	case decode.Map:
		nodes, ok = decode.Try(v, readNodesObject)
	default:
		v.Fail("value_error", "must be a number of nodes", nodesForms)
	}
	if !ok {
		return nodes
	}
	switch {
	case nodes.Min < 0:
		v.At(n, "min").FailValue("must not be negative", "min cannot be negative", "")
	case nodes.Target < nodes.Min:
		v.FailValue("nodes target is below the minimum", "target must not be be less than min", "")
	case nodes.Max != nil && *nodes.Max < nodes.Min:
		v.FailValue("nodes maximum is below the minimum", "max must not be less than min", "")
	case nodes.Max != nil && nodes.Target > *nodes.Max:
		v.FailValue("nodes target is above the maximum", "max must not be less than target", "")
	}
	return nodes
}

func readNodesText(v decode.Value) FleetNodes {
	n := v.Node()
	text := withoutBlanks(n.Text)
	low, high, isRange := strings.Cut(text, "..")
	if n.Kind != decode.String || !isRange {
		count, ok := decode.Try(v, decode.Integer)
		if !ok {
			return FleetNodes{}
		}
		return FleetNodes{Min: count, Target: count, Max: &count}
	}
	var nodes FleetNodes
	if low != "" {
		nodes.Min = decode.Integer(v.At(n.WithText(low), "min"))
	}
	nodes.Target = nodes.Min
	if high != "" {
		maximum := decode.Integer(v.At(n.WithText(high), "max"))
		nodes.Max = &maximum
	}
	return nodes
}

func readNodesObject(v decode.Value) FleetNodes {
	o := v.Object()
	defer o.Done()
	nodes := FleetNodes{
		Max: decode.Field(o, "max", decode.Optional(decode.Integer)),
	}
	if low := decode.Field(o, "min", decode.Optional(decode.Integer)); low != nil {
		nodes.Min = *low
	}
	nodes.Target = nodes.Min
	if target := decode.Field(o, "target", decode.Optional(decode.Integer)); target != nil {
		nodes.Target = *target
	}
	return nodes
}

func readSSHParams(v decode.Value) SSHParams {
	o := v.Object()
	defer o.Done()
	return SSHParams{
		User:         decode.Field(o, "user", decode.Optional(decode.Text)),
		Port:         decode.Field(o, "port", decode.Optional(decode.Integer)),
		IdentityFile: decode.Field(o, "identity_file", decode.Optional(decode.Text)),
		SSHKey:       decode.Field(o, "ssh_key", decode.Optional(readSSHKey)),
		ProxyJump:    decode.Field(o, "proxy_jump", decode.Optional(readSSHProxy)),
		Hosts:        decode.Required(o, "hosts", decode.ListOf(readSSHHost)),
		Network:      decode.Field(o, "network", decode.Optional(readNetwork)),
	}
}

func readSSHHost(v decode.Value) SSHHost {
	if v.Kind() != decode.Map {
		return SSHHost{Hostname: decode.Text(v), Plain: true}
	}
	o := v.Object()
	defer o.Done()
	h := SSHHost{
		Hostname:     decode.Required(o, "hostname", decode.Text),
		Port:         decode.Field(o, "port", decode.Optional(decode.Integer)),
		User:         decode.Field(o, "user", decode.Optional(decode.Text)),
		IdentityFile: decode.Field(o, "identity_file", decode.Optional(decode.Text)),
		ProxyJump:    decode.Field(o, "proxy_jump", decode.Optional(readSSHProxy)),
		InternalIP:   decode.Field(o, "internal_ip", decode.Optional(readInternalIP)),
		SSHKey:       decode.Field(o, "ssh_key", decode.Optional(readSSHKey)),
	}
	if blocks := decode.Field(o, "blocks", decode.Optional(readBlocks)); blocks != nil {
		h.Blocks = *blocks
	}
	return h
}

func readSSHProxy(v decode.Value) SSHProxy {
	o := v.Object()
	defer o.Done()
	return SSHProxy{
		Hostname:     decode.Required(o, "hostname", decode.Text),
		Port:         decode.Field(o, "port", decode.Optional(decode.Integer)),
		User:         decode.Required(o, "user", decode.Text),
		IdentityFile: new(decode.Required(o, "identity_file", decode.Text)),
		SSHKey:       decode.Field(o, "ssh_key", decode.Optional(readSSHKey)),
	}
}

func readSSHKey(v decode.Value) SSHKey {
	o := v.Secret().Object()
	defer o.Done()
	return SSHKey{
		Public:  decode.Required(o, "public", decode.Text),
		Private: decode.Field(o, "private", decode.Optional(decode.Text)),
	}
}

func readInternalIP(v decode.Value) string {
	s, ok := decode.Try(v, decode.Text)
	if !ok {
		return s
	}
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		v.FailValue("must be an IP address", "Invalid IP address", "")
	case !private(netip.PrefixFrom(ip, ip.BitLen())):
		v.FailValue("must be a private IP address", "IP address is not private", "")
	}
	return s
}

func readNetwork(v decode.Value) string {
	s, ok := decode.Try(v, decode.Text)
	if !ok {
		return s
	}
	network, err := netip.ParsePrefix(s)
	if err != nil {
		ip, ipErr := netip.ParseAddr(s)
		if ipErr != nil {
			v.FailValue("must be an IP network", "Failed to parse network: "+s, "ADDRESS/BITS such as 10.0.0.0/16")
			return s
		}
		network = netip.PrefixFrom(ip, ip.BitLen())
	}
	if !private(network.Masked()) {
		v.FailValue("must be a private network", "Public network is specified when private network is required", "")
	}
	return s
}

// privateNetworks are the special-purpose networks of the IANA that are not
// reachable from outside, and publicParts what is public inside of them.
var (
	privateNetworks = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.0.170/31", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32",
		"::1/128", "::/128", "::ffff:0:0/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
		"2002::/16", "3fff::/20", "fc00::/7", "fe80::/10",
	)
	publicParts = prefixes(
		"192.0.0.9/32", "192.0.0.10/32", "2001:1::1/128", "2001:1::2/128", "2001:3::/32", "2001:4:112::/48",
		"2001:20::/28", "2001:30::/28",
	)
)

func prefixes(texts ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		parsed[i] = netip.MustParsePrefix(text)
	}
	return parsed
}

// private says whether all of a network is private.
func private(network netip.Prefix) bool {
	inside := func(outer netip.Prefix) bool {
		return outer.Bits() <= network.Bits() && outer.Contains(network.Addr())
	}
	return slices.ContainsFunc(privateNetworks, inside) && !slices.ContainsFunc(publicParts, inside)
}
