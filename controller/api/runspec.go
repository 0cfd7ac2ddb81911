package api

import (
	"dstack/controller/store"
	"dstack/protocol/accelerator"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// virtualRepo is the id of the repo of a run without one.
const virtualRepo = "none"

// effectiveRun is the specification that is planned and stored: the given
// one with the server's defaults (spec: rest-api.md 9.1). It checks what can
// be checked without rows, and leaves the given one as it is. The user has a
// key pair, or the run brings a key.
func effectiveRun(s api.RunSpec, user *store.User, limits RunLimits) (api.RunSpec, error) {
	s.Configuration = s.Configuration.Clone()
	base := s.Configuration.Base()
	if base == nil {
		return s, refuse("The run has no configuration")
	}
	if s.RunName == nil {
		s.RunName = base.Name
	}
	if err := repoDefaults(&s); err != nil {
		return s, err
	}
	if base.Priority == nil {
		base.Priority = new(0)
	}
	groupDefaults(&s.Configuration)
	base.Resources.GPU = effectiveGPU(base.Resources.GPU, base)
	if s.SSHKeyPub == nil {
		s.SSHKeyPub = &user.PublicKey
	}
	return s, checkRun(&s, limits)
}

// groupDefaults fills in what depends on the type of the run.
func groupDefaults(c *config.Run) {
	switch {
	case c.Task != nil:
		t := c.Task
		if t.Groups == nil {
			t.Nodes = new(deref(t.Nodes, 1))
		}
		t.Groups = append([]config.NodeGroup(nil), t.Groups...)
		for i := range t.Groups {
			t.Groups[i].Resources.GPU = effectiveGPU(t.Groups[i].Resources.GPU, &t.RunBase)
		}
	case c.Service != nil:
		s := c.Service
		s.Groups = append([]config.ReplicaGroup(nil), s.Groups...)
		for i := range s.Groups {
			g := &s.Groups[i]
			base := g.Over(s.RunBase)
			g.Resources.GPU = effectiveGPU(g.Resources.GPU, &base)
		}
	}
}

func repoDefaults(s *api.RunSpec) error {
	switch {
	case s.RepoID == nil && s.RepoData == nil:
		s.RepoID, s.RepoData = new(virtualRepo), &api.RepoData{RepoType: api.RepoVirtual}
	case s.RepoID == nil:
		return refuse("repo_data must not be set if repo_id is not set")
	case s.RepoData == nil:
		return refuse("repo_id must not be set if repo_data is not set")
	}
	return nil
}

// effectiveGPU infers the vendor (spec: configuration.md 3).
func effectiveGPU(g *config.GPU, base *config.RunBase) *config.GPU {
	if g == nil {
		g = &config.GPU{Count: config.Range[int]{Min: new(0)}}
	}
	out := *g
	switch {
	case out.Vendor != nil || out.Count.Max != nil && *out.Count.Max == 0:
	case len(out.Name) > 0:
		out.Vendor = none(accelerator.CommonVendor(out.Name))
	case !hasImage(base):
		out.Vendor = new(config.VendorNvidia)
	}
	return &out
}

// hasImage says whether the user chose what the job runs in.
func hasImage(base *config.RunBase) bool {
	return deref(base.Image, "") != "" || deref(base.Docker, false)
}
