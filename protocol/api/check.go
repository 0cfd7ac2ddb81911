package api

import (
	"fmt"
	"strings"

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
func (r GetRunPlanRequest) check(v decode.Value) { limit(v, "max_offers", r.MaxOffers, 1, 10000) }

func (r ListRunsRequest) check(v decode.Value) {
	limit(v, "limit", r.Limit, 0, 100)
	limit(v, "job_submissions_limit", r.JobSubmissionsLimit, 0, 10)
}

// check demands a random id: that of a submission always is one.
func (r PollLogsRequest) check(v decode.Value) {
	limit(v, "limit", r.Limit, 0, 1000)
	const version = 14 // where a UUID says its version
	if r.JobSubmissionID[version] != '4' {
		at := v.At(v.Node().Lookup("job_submission_id"), "job_submission_id")
		at.FailWire("uuid_version", "must be a UUID of version 4", "UUID version 4 expected", "")
	}
}

// maxFilter is how many ids a filter of events/list may have.
const maxFilter = 16

var eventTargetType = decode.Enum(
	"project", "user", "fleet", "instance", "run", "job", "volume", "gateway", "gateway-replica", "secret", "preset",
)

func (r ListEventsRequest) check(v decode.Value) {
	limit(v, "limit", r.Limit, 1, 100)
	var target, within []string
	ok := true
	for _, p := range v.Node().Pairs {
		name := p.Key.Text
		if p.Value.Kind != decode.List {
			continue
		}
		if name == "include_target_types" {
			for i, item := range p.Value.Items {
				eventTargetType(v.At(item, name, i))
			}
		}
		switch n := len(p.Value.Items); {
		case n < 1:
			v.At(p.Value, name).FailBare("too_short", "List should have at least 1 item after validation, not 0", "")
			ok = false
		case n > maxFilter:
			v.At(p.Value, name).FailBare("too_long", fmt.Sprintf("List should have at most %d items after validation, not %d", maxFilter, n), "")
			ok = false
		case strings.HasPrefix(name, "target_"):
			target = append(target, name)
		case strings.HasPrefix(name, "within_"):
			within = append(within, name)
		}
	}
	if ok {
		atMostOne(v, "target", target)
		atMostOne(v, "within", within)
	}
}

func atMostOne(v decode.Value, kind string, set []string) {
	if len(set) > 1 && !v.Failed() {
		v.FailBare("value_error", fmt.Sprintf("At most one %s_* filter can be set at a time. Got %s", kind, strings.Join(set, ", ")), "")
	}
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
