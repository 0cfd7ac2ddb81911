package api

import (
	"strconv"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// virtualRepo is the id of the repo of a run without one.
const virtualRepo = "none"

// metricsWindow is how many seconds of metrics of a running job are kept.
const metricsWindow = 3600

// effectiveRun is the specification that is planned and stored: the given
// one with the server's defaults (spec: rest-api.md 9.1). It checks what can
// be checked without rows, and leaves the given one as it is.
func effectiveRun(s api.RunSpec, user *store.User) (api.RunSpec, error) {
	if s.Configuration.Task == nil {
		return s, refuse("This server runs only tasks yet")
	}
	task := *s.Configuration.Task
	s.Configuration.Task = &task
	if s.RunName == nil {
		s.RunName = task.Name
	}
	if err := repoDefaults(&s); err != nil {
		return s, err
	}
	if task.Priority == nil {
		task.Priority = new(0)
	}
	if task.Groups == nil {
		task.Nodes = new(deref(task.Nodes, 1))
	}
	task.Resources.GPU = effectiveGPU(task.Resources.GPU, &task)
	task.Groups = append([]config.NodeGroup(nil), task.Groups...)
	for i := range task.Groups {
		task.Groups[i].Resources.GPU = effectiveGPU(task.Groups[i].Resources.GPU, &task)
	}
	if s.SSHKeyPub == nil {
		if user.PublicKey == "" {
			return s, refuse("ssh_key_pub must be set: user %s has no SSH key", user.Name)
		}
		s.SSHKeyPub = &user.PublicKey
	}
	return s, checkRun(&s)
}

func repoDefaults(s *api.RunSpec) error {
	switch {
	case s.RepoID == nil && s.RepoData == nil:
		s.RepoID, s.RepoData = new(virtualRepo), &api.RepoData{RepoType: api.RepoVirtual}
	case s.RepoID == nil:
		return refuse("repo_id must be set if repo_data is set")
	case s.RepoData == nil:
		return refuse("repo_data must be set if repo_id is set")
	}
	return nil
}

// effectiveGPU infers the vendor (spec: configuration.md 3).
func effectiveGPU(g *config.GPU, t *config.Task) *config.GPU {
	if g == nil {
		g = &config.GPU{Count: config.Range[int]{Min: new(0)}}
	}
	out := *g
	switch {
	case out.Vendor != nil || out.Count.Max != nil && *out.Count.Max == 0:
	case len(out.Name) > 0:
		out.Vendor = none(commonVendor(out.Name))
	case !hasImage(t):
		out.Vendor = new(config.VendorNvidia)
	}
	return &out
}

// hasImage says whether the user chose what the job runs in.
func hasImage(t *config.Task) bool {
	return deref(t.Image, "") != "" || deref(t.Docker, false)
}

// checkRun applies the rules of spec configuration.md 10.1 that need no rows.
func checkRun(s *api.RunSpec) error {
	t := s.Configuration.Task
	if s.RunName != nil {
		if err := checkName(*s.RunName); err != nil {
			return err
		}
	}
	if err := config.ValidateSubmit(*t, s.Params(), metricsWindow); err != nil {
		return refuse("%s", err.Error())
	}
	if err := checkMounts(t.Volumes); err != nil {
		return err
	}
	if err := checkHardware("", t.Resources, t); err != nil {
		return err
	}
	for i, g := range t.Groups {
		if err := checkHardware(groupName(i), g.Resources, t); err != nil {
			return err
		}
	}
	return nil
}

func groupName(i int) string { return "groups[" + strconv.Itoa(i) + "]: " }

func checkMounts(mounts []config.Mount) error {
	for _, m := range mounts {
		if len(m.Names) > 0 {
			return notExists("Volume %s does not exist: this server has no network volumes yet, use an instance volume (/host/path:/container/path)", m.Names[0])
		}
	}
	return nil
}

// checkHardware demands an image where the default one cannot be right.
func checkHardware(where string, r config.Resources, t *config.Task) error {
	if g := r.GPU; g != nil && !hasImage(t) && (g.Count.Max == nil || *g.Count.Max > 0) {
		if v := deref(g.Vendor, ""); v != "" && v != config.VendorNvidia && v != config.VendorGoogle {
			return refuse("%s`image` is required if `resources.gpu.vendor` is %s", where, v)
		}
	}
	if deref(r.CPU.Arch, "") != config.ArchARM {
		return nil
	}
	if deref(t.Docker, false) {
		return refuse("%s`docker: true` is not supported on ARM", where)
	}
	if deref(t.Image, "") == "" {
		return refuse("%s`image` is required if `resources.cpu.arch` is arm", where)
	}
	return nil
}

// diffRun lists what changes between two effective specifications, or says
// why the change is not possible in place (spec: rest-api.md 9.2).
func diffRun(old, updated *api.RunSpec) ([]string, error) {
	fields := changed(*old, *updated)
	if !only(fields, "configuration_path", "configuration") {
		return nil, cannotUpdate(fields, "configuration_path", "configuration")
	}
	a, b := old.Configuration.Task, updated.Configuration.Task
	if a == nil || b == nil {
		return nil, refuse("Configuration type changed, cannot update")
	}
	inside := changed(*a, *b)
	allowed := []string{"priority", "files"}
	if onlyArchWidens(a.Resources, b.Resources) {
		allowed = append(allowed, "resources")
	}
	if !only(inside, allowed...) {
		return nil, cannotUpdate(inside, allowed...)
	}
	var out []string
	for _, f := range fields {
		if f != "configuration" {
			out = append(out, f)
		}
	}
	for _, f := range inside {
		out = append(out, "configuration."+f)
	}
	return out, nil
}

func onlyArchWidens(a, b config.Resources) bool {
	if b.CPU.Arch != nil {
		return false
	}
	a.CPU.Arch = nil
	return len(changed(a, b)) == 0
}
