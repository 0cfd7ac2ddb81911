package config

// Service is `type: service` (spec: configuration.md 6.4).
type Service struct {
	// Port is where the service listens; only its container port is used.
	Port    PortMapping     `json:"port"`
	Gateway *ServiceGateway `json:"gateway"`
	// StripPrefix cuts /proxy/services/PROJECT/RUN/ off; without a gateway only.
	StripPrefix bool            `json:"strip_prefix"`
	Model       *Model          `json:"model"`
	HTTPS       *HTTPS          `json:"https"`
	Auth        bool            `json:"auth"`
	Scaling     *Scaling        `json:"scaling"`
	RateLimits  List[RateLimit] `json:"rate_limits"`
	// Probes is nil for the default probe of a model, empty for none.
	Probes []Probe `json:"probes"`
	// Replicas is nil for one replica or if there are groups; both ends are
	// set otherwise.
	Replicas *Range[int]    `json:"replicas"`
	Groups   []ReplicaGroup `json:"groups"`
	Commands List[string]   `json:"commands"`
	Type     string         `json:"type"`
	RunBase
	ProfileParams
}

// ServiceGateway says through which gateway a service is reached: Ref, or
// the default one if Enabled, or none. On the wire it is a reference or a
// boolean.
type ServiceGateway struct {
	Enabled bool
	Ref     *EntityReference
}

// HTTPS is `https` of a service: a boolean, or "auto" for "if there is a
// certificate".
type HTTPS struct {
	Auto bool
	On   bool
}

// Formats of a Model.
const (
	ModelOpenAI = "openai"
	ModelTGI    = "tgi"
)

// Model publishes a service as an OpenAI-compatible model. Prefix is of the
// format openai; ChatTemplate and EOSToken are of the format tgi.
type Model struct {
	Type         string
	Name         string
	Format       string
	Prefix       string
	ChatTemplate *string
	EOSToken     *string
}

// Scaling keeps Target requests a second (metric rps) for each replica.
// Durations are seconds; a nil Window is one minute.
type Scaling struct {
	Metric         string  `json:"metric"`
	Target         float64 `json:"target"`
	Window         *int    `json:"window"`
	ScaleUpDelay   int     `json:"scale_up_delay"`
	ScaleDownDelay int     `json:"scale_down_delay"`
}

// RateLimit bounds the requests a second under a prefix; gateways only.
type RateLimit struct {
	Prefix string       `json:"prefix"`
	Key    RateLimitKey `json:"key"`
	RPS    float64      `json:"rps"`
	Burst  int          `json:"burst"`
}

// Types of RateLimitKey.
const (
	RateLimitByAddress = "ip_address"
	RateLimitByHeader  = "header"
)

// RateLimitKey says whose requests are counted together: those of a client
// address, or those with equal values of Header.
type RateLimitKey struct {
	Type   string `json:"type"`
	Header string `json:"header,omitempty"`
}

// Probe asks a replica over HTTP whether it works. Nil fields have the
// defaults of [Probe.Effective]. Timeout and Interval are seconds.
type Probe struct {
	Type       string            `json:"type"`
	URL        *string           `json:"url"`
	Method     *string           `json:"method"`
	Headers    List[ProbeHeader] `json:"headers"`
	Body       *string           `json:"body"`
	Timeout    *int              `json:"timeout"`
	Interval   *int              `json:"interval"`
	ReadyAfter *int              `json:"ready_after"`
	UntilReady *bool             `json:"until_ready"`
}

// ProbeHeader is one header of a probe's request.
type ProbeHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ReplicaGroup is a group of equal replicas of a service. Nil and empty fields
// take the value of the service.
type ReplicaGroup struct {
	Name        *string      `json:"name"`
	Replicas    Range[int]   `json:"replicas"`
	Scaling     *Scaling     `json:"scaling"`
	Resources   Resources    `json:"resources"`
	SpotPolicy  *string      `json:"spot_policy"`
	Reservation *string      `json:"reservation"`
	Commands    List[string] `json:"commands"`
	Image       *string      `json:"image"`
	Python      *string      `json:"python"`
	NVCC        *bool        `json:"nvcc"`
	Docker      *bool        `json:"docker"`
	Privileged  *bool        `json:"privileged"`
	Router      *Router      `json:"router"`
}

// Types of Router as they are on the wire; users write smg for the first.
const (
	RouterSGLang = "sglang"
	RouterDynamo = "dynamo"
)

// Router makes a group the router in front of the other groups.
type Router struct {
	Type string `json:"type"`
}

// What a probe does if the configuration says nothing. Times are seconds.
const (
	probeTimeout    = 10
	probeInterval   = 15
	modelProbeLimit = 30
)

// Effective gives the probe with its defaults filled in: GET / every 15 s, at
// most 10 s long, ready after one success.
func (p Probe) Effective() Probe {
	orValue(&p.URL, new("/"))
	orValue(&p.Method, new("get"))
	orValue(&p.Timeout, new(probeTimeout))
	orValue(&p.Interval, new(probeInterval))
	orValue(&p.ReadyAfter, new(1))
	orValue(&p.UntilReady, new(false))
	return p
}

// EffectiveProbes gives the probes of a service with all defaults: those
// given, or the standard one of an openai model, or none.
func (s Service) EffectiveProbes() []Probe {
	if s.Probes == nil && s.Model != nil && s.Model.Format == ModelOpenAI {
		return []Probe{s.Model.probe()}
	}
	probes := make([]Probe, len(s.Probes))
	for i, p := range s.Probes {
		probes[i] = p.Effective()
	}
	return probes
}

// RouterGroup is the index of the group that is the router, or -1.
func (s Service) RouterGroup() int {
	for i, g := range s.Groups {
		if g.Router != nil {
			return i
		}
	}
	return -1
}
