package cli

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dstack/protocol/config"
)

// runFlags are the options of `apply` that only some types of configuration
// take.
type runFlags struct {
	name                                        string
	env                                         []string
	sshIdentity                                 string
	maxOffers                                   int
	fullOffers, unallocated                     bool
	ports                                       []string
	host                                        string
	cpu, gpu, memory, disk                      string
	profile                                     string
	noProfile                                   bool
	maxPrice                                    float64
	maxDuration, idleDuration                   string
	backends, regions, types, fleets            []string
	reuse, dontDestroy                          bool
	spot, onDemand, spotAuto, retry, noRetry    bool
	spotPolicy, retryDuration                   string
	repo, repoBranch, repoHash, token, gitIdent string
	noRepo, keepService                         bool
	trials                                      int
	previous                                    []string
}

// ownOptions is the title of the section with the options of one type; the
// help page puts the type's name before it.
const ownOptions = "Type Options"

// define adds the options to `apply`, each with the types that take it.
func (f *runFlags) define(set *pflag.FlagSet) {
	runs := []string{config.TypeTask, config.TypeDevEnvironment, config.TypeService}
	own := section{set, ownOptions, runs}
	f.defineRun(own)
	f.defineResources(section{set, "Resources", runs})
	f.defineProfile(section{set, "Profile", append(slices.Clone(runs), config.TypePreset)})
	f.defineRepo(section{set, "Repo Options", runs})
	f.definePreset(section{set, ownOptions, []string{config.TypePreset}})
}

// section marks new flags with a title in the help page and with types.
type section struct {
	set   *pflag.FlagSet
	title string
	types []string
}

func (s section) mark(flag, valueName string) {
	if s.title != "" {
		annotate(s.set, flag, noteGroup, s.title)
	}
	if s.types != nil {
		annotate(s.set, flag, noteTypes, s.types...)
	}
	if valueName != "" {
		metavar(s.set, flag, valueName)
	}
}

// defineRun adds what only runs take; a name is for all types.
func (f *runFlags) defineRun(s section) {
	set := s.set
	set.StringVarP(&f.name, "name", "n", "", "The name of what is applied, instead of the one in the file")
	s.mark("name", "NAME")
	annotate(set, "name", noteTypes, configurationTypes...)
	set.StringArrayVarP(&f.env, "env", "e", nil, "Set a variable, or take it from this environment; can be given several times")
	s.mark("env", "KEY[=VALUE]")
	annotate(set, "env", noteTypes, append(slices.Clone(s.types), config.TypeFleet)...)
	set.StringVar(&f.sshIdentity, "ssh-identity", "", "The private SSH key that may log in to the run")
	s.mark("ssh-identity", "SSH_PRIVATE_KEY")
	f.defineOffers(s, 3)
	withPorts := []string{config.TypeTask, config.TypeDevEnvironment}
	set.StringArrayVarP(&f.ports, "port", "p", nil, "Forward a port; can be given several times")
	s.mark("port", "MAPPING")
	annotate(set, "port", noteTypes, withPorts...)
	set.StringVar(&f.host, "host", "", "The local address to forward ports to")
	s.mark("host", "")
	annotate(set, "host", noteTypes, withPorts...)
}

// defineOffers adds the options for the list of offers.
func (f *runFlags) defineOffers(s section, most int) {
	s.set.IntVar(&f.maxOffers, "max-offers", most, "How many offers to show")
	s.mark("max-offers", "")
	s.set.BoolVar(&f.fullOffers, "full-offers", false, "Show all of a machine, even if the run gets a part")
	s.mark("full-offers", "")
	s.set.BoolVar(&f.unallocated, "unallocated", false, "Show what is left of a machine")
	s.mark("unallocated", "")
}

// defineResources adds the options that replace `resources`.
func (f *runFlags) defineResources(s section) {
	for _, r := range []struct {
		value            *string
		name, meta, help string
	}{
		{&f.cpu, "cpu", "SPEC", "The number of CPUs: [ARCH:]COUNT, COUNT is N, N.., ..M or N..M"},
		{&f.gpu, "gpu", "SPEC", "The GPUs: vendor, name, memory and count, separated by colons, such as A100:80GB:2"},
		{&f.memory, "memory", "RANGE", "The memory, such as 16GB.. or 8GB..32GB"},
		{&f.disk, "disk", "RANGE", "The disk, such as 100GB.."},
	} {
		s.set.StringVar(r.value, r.name, "", r.help)
		s.mark(r.name, r.meta)
	}
}

func (f *runFlags) defineProfile(s section) {
	set := s.set
	set.StringVar(&f.profile, "profile", "", "The profile to use (DSTACK_PROFILE)")
	s.mark("profile", "NAME")
	set.BoolVar(&f.noProfile, "no-profile", false, "Use no profile (DSTACK_NO_PROFILE)")
	s.mark("no-profile", "")
	exclusive(set, "profile", "no-profile")
	set.Float64Var(&f.maxPrice, "max-price", 0, "The highest price in USD per hour")
	s.mark("max-price", "PRICE")
	set.StringVar(&f.maxDuration, "max-duration", "", "Stop the run after this time: off, seconds, or such as 90m, 2h, 1d")
	s.mark("max-duration", "DURATION")
	set.StringArrayVarP(&f.backends, "backend", "b", nil, "Only use this backend; can be given several times")
	s.mark("backend", "NAME")
	set.StringArrayVarP(&f.regions, "region", "r", nil, "Only use this region; can be given several times")
	s.mark("region", "NAME")
	set.StringArrayVar(&f.types, "instance-type", nil, "Only use this type of machine; can be given several times")
	s.mark("instance-type", "NAME")

	s.title = "Fleets"
	set.StringArrayVar(&f.fleets, "fleet", nil, "Only use this fleet; can be given several times")
	s.mark("fleet", "NAME")
	set.BoolVarP(&f.reuse, "reuse", "R", false, "Only use existing machines")
	s.mark("reuse", "")
	set.BoolVar(&f.dontDestroy, "dont-destroy", false, "Keep the machine after the run")
	s.mark("dont-destroy", "")
	set.StringVar(&f.idleDuration, "idle-duration", "", "Keep an idle machine for this time")
	s.mark("idle-duration", "DURATION")
	exclusive(set, "reuse", "dont-destroy", "idle-duration")

	s.title = "Spot Policy"
	set.BoolVar(&f.spot, "spot", false, "Only use spot machines")
	s.mark("spot", "")
	set.BoolVar(&f.onDemand, "on-demand", false, "Only use on-demand machines")
	s.mark("on-demand", "")
	set.BoolVar(&f.spotAuto, "spot-auto", false, "Use both kinds of machines")
	s.mark("spot-auto", "")
	set.StringVar(&f.spotPolicy, "spot-policy", "", "One of spot, on-demand, auto")
	s.mark("spot-policy", "POLICY")
	exclusive(set, "spot", "on-demand", "spot-auto", "spot-policy")

	s.title = "Retry Policy"
	set.BoolVar(&f.retry, "retry", false, "Submit the run again when it fails")
	s.mark("retry", "")
	set.BoolVar(&f.noRetry, "no-retry", false, "Don't submit the run again")
	s.mark("no-retry", "")
	set.StringVar(&f.retryDuration, "retry-duration", "", "Submit the run again for this time")
	s.mark("retry-duration", "DURATION")
	exclusive(set, "retry", "no-retry", "retry-duration")
}

// definePreset adds the options of presets, which only a coding agent uses.
func (f *runFlags) definePreset(s section) {
	s.set.BoolVar(&f.keepService, "keep-service", false, "Keep the service that was tried last")
	s.mark("keep-service", "")
	s.set.IntVar(&f.trials, "trials", 0, "How many configurations to try")
	s.mark("trials", "N")
	s.set.StringArrayVar(&f.previous, "previous", nil, "An earlier preset to learn from; can be given several times")
	s.mark("previous", "ID")
}

func (f *runFlags) defineRepo(s section) {
	set := s.set
	set.StringVarP(&f.repo, "repo", "P", "", "The Git repo to use: a local path or a URL")
	s.mark("repo", "REPO")
	set.StringVar(&f.repoBranch, "repo-branch", "", "The branch of a repo that is given by its URL")
	s.mark("repo-branch", "BRANCH")
	set.StringVar(&f.repoHash, "repo-hash", "", "The commit of a repo that is given by its URL")
	s.mark("repo-hash", "HASH")
	set.BoolVar(&f.noRepo, "no-repo", false, "Use no repo")
	s.mark("no-repo", "")
	set.StringVarP(&f.token, "token", "t", "", "The OAuth token for the repo")
	s.mark("token", "OAUTH_TOKEN")
	set.StringVar(&f.gitIdent, "git-identity", "", "The private SSH key for the repo")
	s.mark("git-identity", "SSH_PRIVATE_KEY")
}

// override is one option as the field of a run configuration that it
// replaces.
type override struct {
	flag, kind string
	// field is the value in the language of configuration files.
	field map[string]any
	// take copies the parsed field.
	take func(to, from runFields)
}

// runFields are the parts of a run configuration that options replace.
type runFields struct {
	*config.Resources
	*config.ProfileParams
}

// overrides lists the given options that replace fields of the file.
func (f *runFlags) overrides(set *pflag.FlagSet) []override {
	resource := func(flag, kind, value string, take func(to, from runFields)) override {
		return override{flag, kind, map[string]any{"resources": map[string]any{flag: value}}, take}
	}
	all := []override{
		resource("cpu", "cpu_spec", f.cpu, func(to, from runFields) { to.CPU = from.CPU }),
		resource("gpu", "gpu_spec", f.gpu, func(to, from runFields) { to.GPU = from.GPU }),
		resource("memory", "memory_range", f.memory, func(to, from runFields) { to.Memory = from.Memory }),
		resource("disk", "disk_range", f.disk, func(to, from runFields) { to.Disk = from.Disk }),
		{"max-price", "float", map[string]any{"max_price": f.maxPrice}, func(to, from runFields) { to.MaxPrice = from.MaxPrice }},
		{"max-duration", "max_duration", map[string]any{"max_duration": scalar(f.maxDuration)}, func(to, from runFields) { to.MaxDuration = from.MaxDuration }},
		{"backend", "BackendType", map[string]any{"backends": f.backends}, func(to, from runFields) { to.Backends = from.Backends }},
		{"region", "region", map[string]any{"regions": f.regions}, func(to, from runFields) { to.Regions = from.Regions }},
		{"instance-type", "instance_type", map[string]any{"instance_types": f.types}, func(to, from runFields) { to.InstanceTypes = from.InstanceTypes }},
		{"fleet", "fleet", map[string]any{"fleets": f.fleets}, func(to, from runFields) { to.Fleets = from.Fleets }},
		{"reuse", "bool", map[string]any{"creation_policy": "reuse"}, func(to, from runFields) { to.CreationPolicy = from.CreationPolicy }},
		{"dont-destroy", "bool", map[string]any{"idle_duration": -1}, func(to, from runFields) { to.IdleDuration = from.IdleDuration }},
		{"idle-duration", "idle_duration", map[string]any{"idle_duration": scalar(f.idleDuration)}, func(to, from runFields) { to.IdleDuration = from.IdleDuration }},
		{"retry-duration", "duration", map[string]any{"retry": map[string]any{"duration": scalar(f.retryDuration)}}, func(to, from runFields) { to.Retry = from.Retry }},
	}
	for flag, policy := range map[string]string{"spot": "spot", "on-demand": "on-demand", "spot-auto": "auto", "spot-policy": f.spotPolicy} {
		all = append(all, override{flag, "spot_policy", map[string]any{"spot_policy": policy}, func(to, from runFields) { to.SpotPolicy = from.SpotPolicy }})
	}
	for flag, on := range map[string]bool{"retry": true, "no-retry": false} {
		all = append(all, override{flag, "bool", map[string]any{"retry": on}, func(to, from runFields) { to.Retry = from.Retry }})
	}
	var given []override
	for _, o := range all {
		if set.Changed(o.flag) {
			given = append(given, o)
		}
	}
	return given
}

// scalar writes whole numbers as numbers, as a configuration file has them.
func scalar(text string) any {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return text
}

// applyTo replaces what the options name. Each value goes through the parser
// of configuration files, so that both speak one language.
func (f *runFlags) applyTo(cmd *cobra.Command, run config.Run) error {
	if f.name != "" {
		run.Base().Name = &f.name
	}
	to := runFields{&run.Base().Resources, run.OwnParams()}
	if err := f.replace(cmd, to); err != nil {
		return err
	}
	for _, text := range f.ports {
		from, err := parseField(map[string]any{"ports": []any{scalar(text)}})
		if err != nil {
			return argumentError(cmd, "port", "invalid port_mapping value: '%s': %s", text, faultOf(err))
		}
		ports := run.Ports()
		*ports = replacePort(*ports, from.Ports[0])
	}
	return nil
}

// replace puts the options for resources and profile parameters in the place
// of what to has.
func (f *runFlags) replace(cmd *cobra.Command, to runFields) error {
	for _, o := range f.overrides(cmd.Flags()) {
		from, err := parseField(o.field)
		if err != nil {
			return argumentError(cmd, o.flag, "invalid %s value: '%s': %s", o.kind, flagValue(cmd, o.flag), faultOf(err))
		}
		o.take(to, runFields{&from.Resources, &from.ProfileParams})
	}
	return nil
}

func flagValue(cmd *cobra.Command, flag string) string {
	f := cmd.Flags().Lookup(flag)
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return shellJoin(list.GetSlice())
	}
	return f.Value.String()
}

func parseField(field map[string]any) (*config.Task, error) {
	doc := map[string]any{"type": "task", "commands": []string{":"}}
	for name, value := range field {
		doc[name] = value
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	parsed, err := config.DecodeApply("", data)
	if err != nil {
		return nil, err
	}
	return parsed.Run.Task, nil
}

// faultOf is what the parser says without the place: there is no file.
func faultOf(err error) string {
	faults, ok := errors.AsType[config.Errors](err)
	if !ok {
		return err.Error()
	}
	first := faults[0]
	text := first.Message
	if first.Allowed != "" {
		text += ", " + first.Allowed
	}
	return text
}

// replacePort puts a mapping in the place of the one with the same container
// port.
func replacePort(ports []config.PortMapping, with config.PortMapping) []config.PortMapping {
	replaced := make([]config.PortMapping, 0, len(ports)+1)
	for _, p := range ports {
		if p.ContainerPort != with.ContainerPort {
			replaced = append(replaced, p)
		}
	}
	return append(replaced, with)
}

// resolveEnv adds `-e` options to the variables of a file and takes the
// values that are still missing from the environment.
func (a *App) resolveEnv(env config.Env, options []string) (config.Env, error) {
	all := config.Env{}
	for name, value := range env {
		all[name] = value
	}
	for _, option := range options {
		name, value, err := config.ParseEnv(option)
		if err != nil {
			return nil, err
		}
		all[name] = value
	}
	resolved, err := all.Resolve(a.env.LookupEnv)
	if err != nil {
		return nil, userError(capitalize(err.Error()))
	}
	return resolved, nil
}
