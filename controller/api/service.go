package api

import (
	"fmt"
	"slices"
	"strings"

	"dstack/controller/engine"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// assigner decides where a service is reached (spec: rest-api.md 8,
// orchestration.md 7.6); nil for other runs.
func (a *API) assigner(c call, conf config.Run) engine.Assign {
	s := conf.Service
	if s == nil {
		return nil
	}
	return func(tx *store.Tx, run string) (engine.Assignment, error) {
		g, err := gatewayOf(tx, c, s)
		if err != nil {
			return engine.Assignment{}, err
		}
		if g == nil {
			return a.withoutGateway(c, s, run)
		}
		return throughGateway(tx, c, g, s, run)
	}
}

// gatewayOf is the gateway of a service; nil if it has none.
func gatewayOf(tx *store.Tx, c call, s *config.Service) (*store.Gateway, error) {
	switch want := s.Gateway; {
	case want != nil && want.Ref != nil:
		return namedGateway(tx, c, *want.Ref)
	case want != nil && !want.Enabled:
		return nil, nil //nolint:nilnil // no gateway is no error
	}
	id, err := tx.DefaultGateway(c.Project.ID)
	if err != nil {
		return nil, fmt.Errorf("find default gateway: %w", err)
	}
	g, err := defaultNow(tx, c, id)
	if err != nil {
		return nil, err
	}
	if g == nil && s.Gateway != nil {
		return nil, notExists("The service requires a gateway, but there is no default gateway in the project")
	}
	return g, nil
}

// defaultNow is the default gateway of this id; nil if there is none, or if its
// project does not lend it any more.
func defaultNow(tx *store.Tx, c call, id string) (*store.Gateway, error) {
	if id == "" {
		return nil, nil //nolint:nilnil // no gateway is no error
	}
	g, err := tx.Gateway(id)
	if err != nil {
		return nil, fmt.Errorf("read default gateway: %w", err)
	}
	if g.ProjectID == c.Project.ID {
		return &g, nil
	}
	lent, err := tx.ImportedGateways(c.Project.ID)
	if err != nil {
		return nil, fmt.Errorf("list imported gateways: %w", err)
	}
	if !slices.ContainsFunc(lent, func(l store.Gateway) bool { return l.ID == id }) {
		return nil, nil //nolint:nilnil // it is a gateway of others
	}
	return &g, nil
}

func namedGateway(tx *store.Tx, c call, ref config.EntityReference) (*store.Gateway, error) {
	name := ref.Name
	if ref.Project != nil {
		name = *ref.Project + "/" + ref.Name
	}
	missing := notExists("Gateway %s does not exist in project %s", name, c.Project.Name)
	if ref.Project != nil && *ref.Project != c.Project.Name {
		return lentGateway(tx, c, ref, missing)
	}
	g, err := tx.GatewayByName(c.Project.ID, ref.Name)
	if isNotFound(err) {
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("find gateway: %w", err)
	}
	return &g, nil
}

// lentGateway is a gateway of another project that this one imports.
func lentGateway(tx *store.Tx, c call, ref config.EntityReference, missing error) (*store.Gateway, error) {
	owner, err := tx.ProjectByName(*ref.Project)
	if isNotFound(err) {
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("find project: %w", err)
	}
	lent, err := tx.ImportedGateways(c.Project.ID)
	if err != nil {
		return nil, fmt.Errorf("list imported gateways: %w", err)
	}
	for i := range lent {
		if lent[i].ProjectID == owner.ID && lent[i].Name == ref.Name {
			return &lent[i], nil
		}
	}
	return nil, missing
}

// withoutGateway serves from this server, which cannot do all that a gateway can.
func (a *API) withoutGateway(c call, s *config.Service, run string) (engine.Assignment, error) {
	var none engine.Assignment
	if a.deps.Limits.ForbidNoGateway {
		return none, notExists("This server forbids services without a gateway. Please configure a gateway")
	}
	if s.HTTPS != nil && !s.HTTPS.Auto && !s.HTTPS.On {
		return none, refuse("Setting `https: False` is not allowed without a gateway. Please configure a gateway or remove the `https` property from the service configuration")
	}
	if scales(s) {
		return none, refuse("Auto-scaling is not supported when running services without a gateway. Please configure a gateway or set `replicas` to a fixed value in the service configuration")
	}
	if len(s.RateLimits) > 0 {
		return none, refuse("Rate limits are not supported when running services without a gateway. Please configure a gateway or remove `rate_limits` from the service configuration")
	}
	out := engine.Assignment{Service: api.Service{URL: "/proxy/services/" + c.Project.Name + "/" + run + "/"}}
	return out, publish(&out.Service, s, "/proxy/models/"+c.Project.Name+"/")
}

func scales(s *config.Service) bool {
	ranges := func(r *config.Range[int]) bool { return r != nil && deref(r.Min, 0) != deref(r.Max, 0) }
	if ranges(s.Replicas) {
		return true
	}
	for i := range s.Groups {
		if ranges(&s.Groups[i].Replicas) {
			return true
		}
	}
	return false
}

// throughGateway serves at a domain of the gateway.
func throughGateway(tx *store.Tx, c call, g *store.Gateway, s *config.Service, run string) (engine.Assignment, error) {
	var none engine.Assignment
	if err := usableGateway(tx, g); err != nil {
		return none, err
	}
	domain, err := config.Interpolate(strings.TrimPrefix(*g.Configuration.Domain, "*."), func(name string) (string, bool) {
		return c.Project.Name, name == "run.project_name"
	}, func(string) bool { return false })
	if err != nil {
		return none, gatewayError("Failed to interpolate the domain of gateway %s: %v", g.Name, err)
	}
	scheme, err := schemeOf(g, s)
	if err != nil {
		return none, err
	}
	out := engine.Assignment{GatewayID: g.ID, GatewayName: g.Name, Service: api.Service{URL: scheme + "://" + run + "." + domain}}
	models := "http://gateway." + domain
	if g.Configuration.Certificate != nil {
		models = "https://gateway." + domain
	}
	return out, publish(&out.Service, s, models)
}

func usableGateway(tx *store.Tx, g *store.Gateway) error {
	replicas, err := tx.GatewayReplicas([]string{g.ID})
	if err != nil {
		return fmt.Errorf("list replicas of gateway: %w", err)
	}
	switch {
	case g.Deleting:
		return notExists("Gateway %s was marked for deletion", g.Name)
	case g.Status != api.GatewayRunning:
		return refuse("Gateway status is not running")
	case len(replicas) == 0:
		return refuse("Gateway has no instance associated with it")
	case deref(g.Configuration.Domain, "") == "":
		return refuse("Domain is required for gateway")
	}
	return nil
}

// schemeOf follows `https` of the service as far as the gateway's certificate
// allows (spec: services-and-gateways.md 1).
func schemeOf(g *store.Gateway, s *config.Service) (string, error) {
	want := config.HTTPS{On: true}
	if s.HTTPS != nil {
		want = *s.HTTPS
	}
	certificate := g.Configuration.Certificate
	switch {
	case want.Auto && certificate == nil:
		return "http", nil
	case !want.Auto && !want.On && certificate != nil && certificate.Type != config.CertificateLetsEncrypt:
		return "", refuse("Cannot run HTTP service on gateway with load balancer certificates configured")
	case !want.Auto && !want.On:
		return "http", nil
	case certificate == nil:
		return "", refuse("Cannot run HTTPS service on gateway with no SSL certificates configured")
	}
	return "https", nil
}

// publish describes the model of a service. models is the address at which
// models of other formats than OpenAI's are translated.
func publish(out *api.Service, s *config.Service, models string) error {
	m := s.Model
	if m == nil {
		return nil
	}
	out.Model = &api.ServiceModel{Name: m.Name, BaseURL: models, Type: m.Type}
	if m.Format == config.ModelOpenAI {
		base := out.URL
		for len(base) > 0 && base[len(base)-1] == '/' {
			base = base[:len(base)-1]
		}
		out.Model.BaseURL = base + m.Prefix
	} else if m.ChatTemplate == nil || m.EOSToken == nil {
		return refuse("Failed to get tokenizer info: this server does not ask the Hugging Face hub; set `chat_template` and `eos_token` of the model")
	}
	out.Options.OpenAI = &api.OpenAIOptions{Model: *m}
	return nil
}

func gatewayError(format string, args ...any) *Error {
	e := refuse(format, args...)
	e.Code = api.CodeGateway
	return e
}
