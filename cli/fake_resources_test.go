package cli

import (
	"encoding/json"
	"slices"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// fakeResources is what the fake server keeps besides runs and fleets. One
// gateway, one export and one import of project "other" are there from the
// beginning.
type fakeResources struct {
	secrets  []api.Secret
	volumes  []api.Volume
	gateways []api.Gateway
	exports  []api.Export
	imports  []api.Import
}

func newFakeResources() fakeResources {
	text := func(s string) *string { return &s }
	other := api.Gateway{
		ID: "00000000-0000-4000-8000-0000000000b1", Name: "shared", ProjectName: "other", CreatedAt: api.At(fakeStart), Status: api.GatewayRunning,
		Hostname: text("lb.example.com"), WildcardDomain: text("*.example.com"),
		Replicas: []api.GatewayReplica{
			{Hostname: text("1.2.3.0"), Backend: text("aws"), Region: text("us-east-1"), CreatedAt: api.At(fakeStart), Status: "running"},
			{Hostname: text("1.2.3.1"), ReplicaNum: 1, Backend: text("aws"), Region: text("us-east-1"), CreatedAt: api.At(fakeStart), Status: "provisioning"},
		},
	}
	return fakeResources{
		gateways: []api.Gateway{other},
		imports: []api.Import{{Export: api.ImportExport{
			Name: "pool", ProjectName: "other", ExportedFleets: []api.ExportedObject{{Name: "h100"}}, ExportedGateways: []api.ExportedObject{{Name: "shared"}},
		}}},
	}
}

// answer handles the calls about these resources; known is false for others.
func (f *fakeResources) answer(call string, body *json.Decoder) (answer any, err error, known bool) {
	for _, part := range []func(string, *json.Decoder) (any, error, bool){f.answerSecrets, f.answerVolumes, f.answerGateways, f.answerExports, answerOffers} {
		if answer, err, known := part(call, body); known {
			return answer, err, true
		}
	}
	return nil, nil, false
}

func (f *fakeResources) answerSecrets(call string, body *json.Decoder) (any, error, bool) {
	switch call {
	case "secrets/list":
		hidden := slices.Clone(nonNil(f.secrets))
		for i := range hidden {
			hidden[i].Value = nil
		}
		return hidden, nil, true
	case "secrets/get":
		name := in[api.GetSecretRequest](body).Name
		for _, s := range f.secrets {
			if s.Name == name {
				return s, nil, true
			}
		}
		return nil, errNotThere, true
	case "secrets/create_or_update":
		req := in[api.CreateOrUpdateSecretRequest](body)
		f.secrets = slices.DeleteFunc(f.secrets, func(s api.Secret) bool { return s.Name == req.Name })
		f.secrets = append(f.secrets, api.Secret{Name: req.Name, Value: &req.Value})
		return f.secrets[len(f.secrets)-1], nil, true
	case "secrets/delete":
		name := in[api.DeleteSecretsRequest](body).SecretsNames[0]
		before := len(f.secrets)
		f.secrets = slices.DeleteFunc(f.secrets, func(s api.Secret) bool { return s.Name == name })
		if len(f.secrets) == before {
			return nil, failure("resource_not_exists", "Secrets not found: "+name), true
		}
		return nil, nil, true
	}
	return nil, nil, false
}

func (f *fakeResources) answerVolumes(call string, body *json.Decoder) (any, error, bool) {
	switch call {
	case "volumes/list":
		return nonNil(f.volumes), nil, true
	case "volumes/get":
		name := in[api.GetVolumeRequest](body).Name
		for i := range f.volumes {
			if f.volumes[i].Name == name {
				answer := f.volumes[i]
				settle(&f.volumes[i])
				return answer, nil, true
			}
		}
		return nil, failure("resource_not_exists", "Volume not found"), true
	case "volumes/create":
		conf := in[api.CreateVolumeRequest](body).Configuration
		v := api.Volume{
			ID: "00000000-0000-4000-8000-0000000000c1", Name: deref(conf.Name), User: "admin", ProjectName: fakeProject,
			Configuration: conf, CreatedAt: api.At(fakeStart), Status: api.VolumeSubmitted,
		}
		f.volumes = append(f.volumes, v)
		return v, nil, true
	case "volumes/delete":
		name := in[api.DeleteVolumesRequest](body).Names[0]
		f.volumes = slices.DeleteFunc(f.volumes, func(v api.Volume) bool { return v.Name == name })
		return nil, nil, true
	}
	return nil, nil, false
}

func (f *fakeResources) answerGateways(call string, body *json.Decoder) (any, error, bool) {
	find := func(name string) (any, error, bool) {
		for i, g := range f.gateways {
			if g.Name == name && g.ProjectName == fakeProject {
				f.gateways[i].Status = api.GatewayRunning
				return g, nil, true
			}
		}
		return nil, errNotThere, true
	}
	switch call {
	case "gateways/list":
		return nonNil(f.gateways), nil, true
	case "gateways/get":
		return find(in[api.GetGatewayRequest](body).Name)
	case "gateways/get_plan":
		spec := in[api.GetGatewayPlanRequest](body).Spec
		plan := api.GatewayPlan{ProjectName: fakeProject, User: "admin", Spec: spec, EffectiveSpec: spec, Action: "create"}
		for _, g := range f.gateways {
			if g.Name == deref(spec.Configuration.Name) {
				plan.CurrentResource = &g
				if g.Configuration.Backend == spec.Configuration.Backend {
					plan.Action = "update"
				}
			}
		}
		return plan, nil, true
	case "gateways/apply":
		conf := in[api.ApplyGatewayPlanRequest](body).Plan.Spec.Configuration
		domain := "*." + deref(conf.Domain)
		f.gateways = slices.DeleteFunc(f.gateways, func(g api.Gateway) bool { return g.Name == deref(conf.Name) && g.ProjectName == fakeProject })
		g := api.Gateway{
			ID: "00000000-0000-4000-8000-0000000000b2", Name: deref(conf.Name), ProjectName: fakeProject, Configuration: conf, CreatedAt: api.At(fakeStart),
			Status: api.GatewaySubmitted, WildcardDomain: &domain, Backend: &conf.Backend, Region: &conf.Region,
		}
		f.gateways = append(f.gateways, g)
		return g, nil, true
	case "gateways/delete":
		name := in[api.DeleteGatewaysRequest](body).Names[0]
		f.gateways = slices.DeleteFunc(f.gateways, func(g api.Gateway) bool { return g.Name == name })
		return nil, nil, true
	case "gateways/set_default":
		req := in[api.SetDefaultGatewayRequest](body)
		for i, g := range f.gateways {
			f.gateways[i].Default = g.Name == req.Name && (req.GatewayProject == nil || g.ProjectName == *req.GatewayProject)
		}
		return nil, nil, true
	}
	return nil, nil, false
}

func (f *fakeResources) answerExports(call string, body *json.Decoder) (any, error, bool) {
	shared := func(names []string) (all config.List[api.ExportedObject]) {
		for _, name := range names {
			all = append(all, api.ExportedObject{Name: name})
		}
		return all
	}
	switch call {
	case "exports/list":
		return api.ListExportsResponse{Exports: f.exports, Warnings: []string{"Exports will be phased out."}}, nil, true
	case "exports/create":
		req := in[api.CreateExportRequest](body)
		e := api.Export{Name: req.Name, IsGlobal: req.IsGlobal, ExportedFleets: shared(req.ExportedFleets), ExportedGateways: shared(req.ExportedGateways)}
		for _, p := range req.ImporterProjects {
			e.Imports = append(e.Imports, api.ExportImport{ProjectName: p})
		}
		f.exports = append(f.exports, e)
		return e, nil, true
	case "exports/update":
		req := in[api.UpdateExportRequest](body)
		for i := range f.exports {
			if e := &f.exports[i]; e.Name == req.Name {
				e.IsGlobal = (e.IsGlobal || req.SetGlobal) && !req.UnsetGlobal
				e.ExportedFleets = append(e.ExportedFleets, shared(req.AddExportedFleets)...)
				return *e, nil, true
			}
		}
		return nil, errNotThere, true
	case "exports/delete":
		f.exports = nil
		return nil, nil, true
	case "imports/list": // as servers before 0.22.0 answer
		return nonNil(f.imports), nil, true
	case "imports/delete":
		f.imports = nil
		return nil, nil, true
	}
	return nil, nil, false
}

// settle lets a new volume become active, or fail if its backend is not there.
func settle(v *api.Volume) {
	if v.Configuration.Backend == "gcp" {
		message := "Backend not available"
		v.Status, v.StatusMessage = api.VolumeFailed, &message
		return
	}
	v.Status = api.VolumeActive
}
