package api

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"dstack/protocol/config"
)

// What backends can do for gateways (spec: backends.md 1.3).
var (
	gatewayBackends        = []string{"aws", "azure", "gcp", "kubernetes"}
	privateGatewayBackends = []string{"aws", "gcp"}
)

// defaultReplicas is how many replicas a gateway may have if nothing else is
// configured.
const defaultReplicas = 9

// checkGateway applies the rules of spec configuration.md 10.1, in the order
// of 0.22.5: the first that is broken is told.
func (a *API) checkGateway(c *config.Gateway) error {
	if !slices.Contains(gatewayBackends, c.Backend) {
		return refuse("Gateways are not supported for %s backend. Available backends with gateway support: [%s].", c.Backend, quoted(gatewayBackends))
	}
	if c.Name != nil {
		if err := checkName(*c.Name); err != nil {
			return err
		}
	}
	if c.Domain != nil {
		if _, err := gatewayDomain(*c.Domain, ""); err != nil {
			return err
		}
	}
	if !c.PublicIP && !slices.Contains(privateGatewayBackends, c.Backend) {
		return refuse("Private gateways are not supported for %s backend.  Available backends with private gateway support: [%s].",
			c.Backend, quoted(privateGatewayBackends))
	}
	most := a.deps.GatewayReplicas
	if most == 0 {
		most = defaultReplicas
	}
	if n := deref(c.Replicas, 1); n > most {
		return refuse("Cannot provision %d gateway replicas. This server allows at most %d", n, most)
	}
	if err := checkBalancer(c); err != nil {
		return err
	}
	return checkCertificate(c)
}

func checkBalancer(c *config.Gateway) error {
	if c.LoadBalancer == nil {
		return nil
	}
	cert := ""
	if c.Certificate != nil {
		cert = c.Certificate.Type
	}
	switch c.Backend {
	case "aws":
		if cert != "" && cert != config.CertificateACM {
			return refuse("`load_balancer: { type: alb }` can only be used with `certificate: null` or `certificate: { type: acm }`")
		}
	case "gcp":
		if cert != "" && cert != config.CertificateGCP {
			return refuse("`load_balancer: { type: alb }` for the `gcp` backend can only be used with `certificate: null` or `certificate: { type: gcp-cm }`")
		}
	default:
		return refuse("`load_balancer: { type: alb }` is supported for `aws` and `gcp` backends only")
	}
	return nil
}

func checkCertificate(c *config.Gateway) error {
	if c.Certificate == nil {
		return nil
	}
	switch c.Certificate.Type {
	case config.CertificateLetsEncrypt:
		if !c.PublicIP {
			return refuse("lets-encrypt certificate type is not supported for private gateways")
		}
		if deref(c.Replicas, 1) > 1 {
			return refuse("%s", oneReplica(c.Backend))
		}
	case config.CertificateACM:
		if c.Backend != "aws" {
			return refuse("acm certificate type is supported for aws backend only")
		}
	case config.CertificateGCP:
		if c.Backend != "gcp" {
			return refuse("gcp-cm certificate type is supported for gcp backend only")
		}
		if c.LoadBalancer == nil {
			return refuse("`certificate: { type: gcp-cm }` requires `load_balancer: { type: alb }`")
		}
	}
	return nil
}

// oneReplica says what to use instead of Let's Encrypt with several replicas.
func oneReplica(backend string) string {
	text := "The `lets-encrypt` certificate type is not supported for gateways with `replicas` greater than `1`. " +
		"To create a replicated gateway, set the `certificate` configuration property to one of the supported values, " +
		"such as `certificate: null` (no HTTPS)"
	switch backend {
	case "aws":
		text += " or `certificate: { type: acm, arn: <arn> }` (AWS ACM)"
	case "gcp":
		text += " or `certificate: { type: gcp-cm, name: <name> }` (GCP Certificate Manager)"
	}
	return text
}

// legalVariable is what a name in ${{ }} may look like.
var legalVariable = regexp.MustCompile(`^[a-zA-Z_]\w*\.[a-zA-Z_]\w*$`)

// gatewayDomain fills the project's name into a gateway's domain.
func gatewayDomain(domain, project string) (string, error) {
	const failed = "Cannot interpolate gateway domain name: "
	var missing []string
	out, err := config.Interpolate(domain, func(name string) (string, bool) {
		switch {
		case name == "run.project_name":
			return project, true
		case legalVariable.MatchString(name):
			missing = append(missing, name)
			return "", true
		}
		return "", false
	}, func(string) bool { return false })
	switch {
	case err == nil && len(missing) == 0:
		return out, nil
	case err == nil:
		return "", refuse("%sFailed to interpolate due to missing vars: [%s]", failed, quoted(missing))
	}
	if open := strings.LastIndex(domain, "${{"); open >= 0 && !strings.Contains(domain[open:], "}}") {
		return "", refuse("%sNo pattern closing: %s", failed, domain[open:])
	}
	return "", refuse("%s", fmt.Sprint(failed, err))
}

// diffGateway lists the fields that an update changes, or says that it cannot
// be done in place. The stored configuration has its default filled in; a
// wish without one leaves that as it is.
func diffGateway(old, updated config.Gateway) ([]string, bool) {
	if updated.Default == nil {
		updated.Default = old.Default
	}
	// Without a name the gateway would be a new one.
	updated.Name = old.Name
	fields := changed(old, updated)
	return fields, only(fields, "default", "domain", "replicas")
}
