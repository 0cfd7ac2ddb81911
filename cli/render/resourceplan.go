package render

import (
	"strconv"

	"dstack/cli/term"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// VolumePlan is the header of a volume's plan.
func VolumePlan(project, user, path string, conf config.Volume) term.Table {
	f := newFields()
	f.add("Project", project)
	f.add("User", user)
	f.add("Configuration", path)
	f.add("Type", "volume")
	kind := "managed"
	if conf.ExternalID() != nil {
		kind = "external"
	}
	f.add("Volume type", kind)
	f.add("Backend", conf.Backend)
	if conf.Region != "" {
		f.add("Region", conf.Region)
	}
	if conf.HasSize() {
		size := "-"
		if conf.Size != nil {
			size = number(*conf.Size, 3) + "GB"
		}
		f.add("Size", size)
	}
	return f.t
}

// GatewayPlan is the header of a gateway's plan.
func GatewayPlan(plan api.GatewayPlan, path string) term.Table {
	conf := plan.EffectiveSpec.Configuration
	f := newFields()
	f.add("Project", plan.ProjectName)
	f.add("User", plan.User)
	f.add("Configuration", path)
	f.add("Type", "gateway")
	f.add("Backend", conf.Backend)
	f.add("Region", conf.Region)
	domain := "-"
	if conf.Domain != nil {
		domain = *conf.Domain
	}
	f.add("Domain", domain)
	if conf.Replicas != nil {
		f.add("Replicas", strconv.Itoa(*conf.Replicas))
	}
	return f.t
}
