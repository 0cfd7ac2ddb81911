package config

// Gateway is `type: gateway` (spec: configuration.md 8).
type Gateway struct {
	Type string  `json:"type"`
	Name *string `json:"name"`
	// Default is nil for "if the project has none", and for "as it was" in an
	// update.
	Default      *bool   `json:"default"`
	Backend      string  `json:"backend"`
	Region       string  `json:"region"`
	InstanceType *string `json:"instance_type"`
	// Domain is the parent of the domains of services, without "*.".
	Domain       *string       `json:"domain"`
	PublicIP     bool          `json:"public_ip"`
	LoadBalancer *LoadBalancer `json:"load_balancer"`
	// Certificate is nil for none; Let's Encrypt is the default.
	Certificate *Certificate      `json:"certificate"`
	Replicas    *int              `json:"replicas"`
	Tags        map[string]string `json:"tags"`
}

// LoadBalancerALB is the only type of LoadBalancer.
const LoadBalancerALB = "alb"

// LoadBalancer stands in front of the replicas of a gateway.
type LoadBalancer struct {
	Type string `json:"type"`
}

// Types of Certificate.
const (
	CertificateLetsEncrypt = "lets-encrypt"
	CertificateACM         = "acm"
	CertificateGCP         = "gcp-cm"
)

// Certificate says where a gateway has its certificates from. ARN is of the
// type acm, Name of gcp-cm.
type Certificate struct {
	Type string `json:"type"`
	ARN  string `json:"arn,omitempty"`
	Name string `json:"name,omitempty"`
}
