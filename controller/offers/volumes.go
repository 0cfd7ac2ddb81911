package offers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dstack/controller/backends"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/reason"
)

// Volumes is where the network volumes of a job are.
type Volumes struct {
	// ProjectID is the project that owns them.
	ProjectID string
	// Sites are where all mounts of the job can be had, in the order of the
	// names that the job gives.
	Sites []Site
	// Broken says that a volume cannot be used at all; there are no sites then.
	Broken string
}

// Site is a place where each mount of a job has a volume.
type Site struct {
	Backend, Region string
	// Zone is empty if volumes reach the whole region.
	Zone string
	// Names are the volumes, in the order of the mounts.
	Names []string
	// Holder is the id of the instance to which one of them is attached: the
	// job can use it there only. Busy says that it can be used nowhere now. Why
	// says what of it keeps the job from other instances.
	Holder string
	Busy   bool
	Why    string
}

// LoadVolumes finds the network volumes that a job mounts; nil if it mounts
// none.
func LoadVolumes(tx *store.Tx, projectID string, mounts []config.Mount) (*Volumes, error) {
	mounts = slices.DeleteFunc(slices.Clone(mounts), func(m config.Mount) bool { return len(m.Names) == 0 })
	if len(mounts) == 0 {
		return nil, nil
	}
	var (
		broken string
		found  = make([][]held, len(mounts))
		seen   = map[string]bool{}
	)
	for i, m := range mounts {
		for _, name := range m.Names {
			v, why, err := usableVolume(tx, projectID, name)
			switch {
			case err != nil:
				return nil, err
			case why != "":
				broken = why
			case seen[v.ID]:
				broken = "Cannot attach the same volume at different mount points"
			}
			seen[v.ID] = true
			found[i] = append(found[i], held{volume: v})
		}
	}
	if broken != "" {
		return &Volumes{ProjectID: projectID, Broken: broken}, nil
	}
	claims, err := tx.ClaimingJobs(projectID)
	if err != nil {
		return nil, fmt.Errorf("find who waits for a machine: %w", err)
	}
	for _, list := range found {
		for i := range list {
			if err := list[i].load(tx, claims); err != nil {
				return nil, err
			}
		}
	}
	return &Volumes{ProjectID: projectID, Sites: sites(found)}, nil
}

// usableVolume finds a volume by name and says why it cannot be used.
func usableVolume(tx *store.Tx, projectID, name string) (store.Volume, string, error) {
	v, err := tx.VolumeByName(projectID, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return v, fmt.Sprintf("Volume %s not found", name), nil
	case err != nil:
		return v, "", fmt.Errorf("find volume: %w", err)
	case v.Deleting:
		return v, fmt.Sprintf("Volume %s is marked for deletion and cannot be mounted", name), nil
	case v.Status != api.VolumeActive:
		return v, fmt.Sprintf("Volume %s is not active and cannot be mounted", name), nil
	}
	return v, "", nil
}

// held is a volume with the instance that holds it, if one does.
type held struct {
	volume store.Volume
	// holder and its name are empty if none does; leaving says that no job may
	// use it there any more.
	holder, name string
	leaving      bool
}

// load finds the instance to which the volume is attached, or will be once it
// has a machine: claims are the jobs that wait for one.
func (h *held) load(tx *store.Tx, claims []store.Job) error {
	list, err := tx.VolumeAttachments([]string{h.volume.ID})
	if err != nil {
		return err //nolint:wrapcheck // says what it was doing
	}
	if len(list) > 0 {
		h.holder, h.leaving = list[0].InstanceID, list[0].DetachAt != nil || list[0].Failed
	} else if i := slices.IndexFunc(claims, h.claimed); i >= 0 {
		h.holder = *claims[i].InstanceID
	}
	if h.holder == "" {
		return nil
	}
	in, err := tx.Instance(h.holder)
	if err != nil {
		return fmt.Errorf("find instance of volume: %w", err)
	}
	h.name = in.Name
	return nil
}

// claimed says whether a job needs just this volume.
func (h *held) claimed(j store.Job) bool {
	return slices.ContainsFunc(j.Spec.Volumes, func(m config.Mount) bool { return len(m.Names) == 1 && m.Names[0] == h.volume.Name })
}

// at is where a volume is, as a site without volumes.
func (h *held) at() Site {
	s := Site{Backend: h.volume.Configuration.Backend, Region: h.volume.Configuration.Region}
	if p := h.volume.Provisioning; p != nil && p.AvailabilityZone != nil {
		s.Zone = *p.AvailabilityZone
	}
	return s
}

func (h *held) within(s Site) bool {
	at := h.at()
	return at.Backend == s.Backend && at.Region == s.Region && at.Zone == s.Zone
}

// sites are the places of the first mount's volumes where the other mounts
// have a volume, too.
func sites(mounts [][]held) []Site {
	var out []Site
	for _, first := range mounts[0] {
		s := first.at()
		if slices.ContainsFunc(out, first.within) {
			continue
		}
		complete := true
		for _, list := range mounts {
			h, ok := pick(list, s)
			if !ok {
				complete = false
				break
			}
			s.add(h)
		}
		if complete {
			out = append(out, s)
		}
	}
	return out
}

// pick is the first volume at a site that nobody has, else the first one.
func pick(list []held, s Site) (held, bool) {
	here := slices.DeleteFunc(slices.Clone(list), func(h held) bool { return !h.within(s) })
	if len(here) == 0 {
		return held{}, false
	}
	if i := slices.IndexFunc(here, func(h held) bool { return h.holder == "" }); i >= 0 {
		return here[i], true
	}
	return here[0], true
}

func (s *Site) add(h held) {
	s.Names = append(s.Names, h.volume.Name)
	switch {
	case h.holder == "":
		return
	case h.leaving:
		s.Busy = true
		s.Why = fmt.Sprintf("its volume %s is being detached from %s", h.volume.Name, h.name)
		return
	case s.Holder != "" && s.Holder != h.holder:
		s.Busy = true
	}
	s.Holder = h.holder
	if !s.Busy || s.Why == "" {
		s.Why = fmt.Sprintf("its volume %s is attached to %s", h.volume.Name, h.name)
	}
}

// Free is the same as if nobody used the volumes now.
func (v *Volumes) Free() *Volumes {
	if v == nil {
		return nil
	}
	free := *v
	free.Sites = slices.Clone(v.Sites)
	for i := range free.Sites {
		free.Sites[i].Holder, free.Sites[i].Busy, free.Sites[i].Why = "", false, ""
	}
	return &free
}

// For is the same for an instance that is being made: what it holds is free.
func (v *Volumes) For(instanceID string) *Volumes {
	if v == nil {
		return nil
	}
	out := *v
	out.Sites = slices.Clone(v.Sites)
	for i := range out.Sites {
		if s := &out.Sites[i]; s.Holder == instanceID && !s.Busy {
			s.Holder, s.Why = "", ""
		}
	}
	return &out
}

// Taken says what keeps the job from a place that it could have if nobody used
// its volumes; empty if nothing does.
func (v *Volumes) Taken() string {
	if v == nil {
		return ""
	}
	for _, s := range v.Sites {
		if s.Why != "" {
			return s.Why
		}
	}
	return ""
}

// On is the site that an instance is at, with volumes that can be used there.
func (v *Volumes) On(inst store.Instance) (Site, bool) {
	for i := range v.Sites {
		s := &v.Sites[i]
		if s.has(inst) && !s.Busy && (s.Holder == "" || s.Holder == inst.ID) {
			return *s, true
		}
	}
	return Site{}, false
}

// has says whether volumes of the site can be attached to an instance.
func (s *Site) has(inst store.Instance) bool {
	zone := ""
	if inst.Machine != nil {
		zone = inst.Machine.Zone
	}
	return s.Backend == inst.Backend && s.Region == inst.Region && (s.Zone == zone || s.Zone == "")
}

// where names the sites.
func (v *Volumes) where() string {
	var names []string
	for _, s := range v.Sites {
		if s.Zone != "" {
			names = append(names, s.Backend+" "+s.Zone)
		} else {
			names = append(names, s.Backend+" "+s.Region)
		}
	}
	return strings.Join(names, ", ")
}

// refuse says why an instance cannot have the volumes.
func (v *Volumes) refuse(inst store.Instance) refusal {
	switch {
	case v == nil:
		return refusal{}
	case v.Broken != "":
		return because(reason.VolumeUnusable, "%s", v.Broken)
	case inst.Backend == remoteBackend:
		return because(reason.VolumeElsewhere, "network volumes can be attached to machines of their cloud only")
	case inst.ProjectID != v.ProjectID:
		return because(reason.VolumeElsewhere, "volumes cannot be attached to machines of another project")
	}
	if _, ok := v.On(inst); ok {
		return refusal{}
	}
	if i := slices.IndexFunc(v.Sites, func(s Site) bool { return s.has(inst) }); i >= 0 {
		return because(reason.VolumeBusy, "%s", v.Sites[i].Why)
	}
	return v.elsewhere()
}

func (v *Volumes) elsewhere() refusal {
	if len(v.Sites) == 0 {
		return because(reason.VolumeElsewhere, "its volumes are in no place together")
	}
	return because(reason.VolumeElsewhere, "its volumes are in %s", v.where())
}

// zones are those of an offer in which the volumes could be attached to a new
// machine; none means every zone.
func (v *Volumes) zones(o backends.Offer) ([]string, refusal) {
	if v.Broken != "" {
		return nil, because(reason.VolumeUnusable, "%s", v.Broken)
	}
	var (
		zones []string
		busy  string
		whole bool
	)
	for _, s := range v.Sites {
		inside := len(o.AvailabilityZones) == 0 || s.Zone == "" || slices.Contains(o.AvailabilityZones, s.Zone)
		switch {
		case s.Backend != o.Backend || s.Region != o.Region || !inside:
		case s.Busy || s.Holder != "":
			busy = s.Why
		case s.Zone == "":
			whole = true
		default:
			zones = append(zones, s.Zone)
		}
	}
	switch {
	case whole:
		return nil, refusal{}
	case len(zones) > 0:
		return zones, refusal{}
	case busy != "":
		return nil, because(reason.VolumeBusy, "%s", busy)
	}
	return nil, v.elsewhere()
}
