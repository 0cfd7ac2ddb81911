package api

import (
	"dstack/protocol/internal/decode"
)

func (ListProjectFleetsRequest) optionalBody() {}

// limit checks an optional number against the limits of its field.
func limit(v decode.Value, name string, n *int, low, high int) {
	if n == nil {
		return
	}
	at := v.At(v.Node().Lookup(name), name)
	decode.IntBetween(low, high)(at)
}

func (r ListFleetsRequest) check(v decode.Value) { limit(v, "limit", r.Limit, 0, 100) }
func (r PollLogsRequest) check(v decode.Value)   { limit(v, "limit", r.Limit, 0, 1000) }
func (r GetRunPlanRequest) check(v decode.Value) { limit(v, "max_offers", r.MaxOffers, 1, 10000) }

func (r ListRunsRequest) check(v decode.Value) {
	limit(v, "limit", r.Limit, 0, 100)
	limit(v, "job_submissions_limit", r.JobSubmissionsLimit, 0, 10)
}

// maxFilter is how many ids a filter of events/list may have.
const maxFilter = 16

func (r ListEventsRequest) check(v decode.Value) {
	limit(v, "limit", r.Limit, 1, 100)
	targets := [][]string{
		r.TargetProjects, r.TargetUsers, r.TargetFleets, r.TargetInstances, r.TargetRuns, r.TargetJobs,
		r.TargetVolumes, r.TargetGateways, r.TargetGatewayReplicas, r.TargetSecrets, r.TargetPresets,
	}
	within := [][]string{r.WithinProjects, r.WithinFleets, r.WithinRuns, r.WithinGateways}
	if countSet(targets) > 1 {
		v.FailBare("value_error", "at most one target_* filter can be used", "")
	}
	if countSet(within) > 1 {
		v.FailBare("value_error", "at most one within_* filter can be used", "")
	}
	for _, p := range v.Node().Pairs {
		if n := len(p.Value.Items); p.Value.Kind == decode.List && (n < 1 || n > maxFilter) {
			v.At(p.Value, p.Key.Text).FailBare("too_long", "must have 1 to 16 items", "")
		}
	}
}

func countSet(lists [][]string) int {
	n := 0
	for _, list := range lists {
		if list != nil {
			n++
		}
	}
	return n
}

func (r SaveRepoCredsRequest) check(v decode.Value) {
	repoType, o := readRepoType(v.At(v.Node().Lookup("repo_info"), "repo_info"))
	switch repoType {
	case "":
		return
	case RepoRemote:
		decode.Required(o, "repo_name", decode.Text)
	case RepoLocal:
		decode.Required(o, "repo_dir", decode.Text)
	}
	o.Done()
}
