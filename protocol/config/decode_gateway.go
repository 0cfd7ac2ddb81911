package config

import "dstack/protocol/internal/decode"

// ReadGateway reads `type: gateway` (spec: configuration.md 8).
func ReadGateway(v decode.Value) Gateway {
	o := v.Object()
	defer o.Done()
	readOwnType(o, TypeGateway)
	return Gateway{
		Type:         TypeGateway,
		Name:         decode.Field(o, "name", decode.Optional(decode.Text)),
		Default:      decode.Field(o, "default", decode.Optional(decode.Boolean)),
		Backend:      decode.Required(o, "backend", decode.Enum(BackendTypes...)),
		Region:       decode.Required(o, "region", decode.Text),
		InstanceType: decode.Field(o, "instance_type", decode.Optional(decode.TextOf(1, maxText))),
		Domain:       decode.Field(o, "domain", decode.Optional(decode.Text)),
		PublicIP:     decode.FieldOr(o, "public_ip", true, decode.Boolean),
		LoadBalancer: decode.Field(o, "load_balancer", decode.Optional(readLoadBalancer)),
		Certificate:  decode.FieldOr(o, "certificate", &Certificate{Type: CertificateLetsEncrypt}, decode.Optional(readCertificate)),
		Replicas:     decode.Field(o, "replicas", decode.Optional(decode.IntMin(1))),
		Tags:         decode.Field(o, "tags", readTags),
	}
}

// maxText is for texts without an upper limit of their own.
const maxText = 1 << 30

// readOwnType reads the "type" of a configuration whose type is given by its
// place; it may be missing.
func readOwnType(o *decode.Object, typ string) {
	decode.Field(o, "type", decode.Literal(typ))
}

func readLoadBalancer(v decode.Value) LoadBalancer {
	typ, o := decode.Variant(v, "type", LoadBalancerALB)
	if typ != "" {
		o.Done()
	}
	return LoadBalancer{Type: typ}
}

func readCertificate(v decode.Value) Certificate {
	typ, o := decode.Variant(v, "type", CertificateLetsEncrypt, CertificateACM, CertificateGCP)
	c := Certificate{Type: typ}
	if typ == "" {
		return c
	}
	defer o.Done()
	switch typ {
	case CertificateACM:
		c.ARN = decode.Required(o, "arn", decode.Text)
	case CertificateGCP:
		c.Name = decode.Required(o, "name", decode.Text)
	}
	return c
}
