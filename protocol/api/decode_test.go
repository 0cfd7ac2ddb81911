package api

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/config"
)

// fault is the part of an error that clients may rely on.
type fault struct {
	Type string
	Loc  []any
}

func faults(t *testing.T, err error) []fault {
	t.Helper()
	if err == nil {
		return nil
	}
	errs, ok := errors.AsType[config.Errors](err)
	if !ok {
		t.Fatalf("error is a %T", err)
	}
	var all []fault
	for _, d := range errs.Details() {
		all = append(all, fault{d.Type, d.Loc})
	}
	return all
}

// The wanted faults are those of 0.22.5's models.
func TestDecodeRunSpecFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		want       []fault
	}{
		{"fine", `{"configuration":{"type":"task","commands":["a"]}}`, nil},
		{"no configuration", `{}`, []fault{{"missing", []any{"body", "configuration"}}}},
		{"unknown field of the task", `{"configuration":{"type":"task","commands":["a"],"comands":1}}`,
			[]fault{{"extra_forbidden", []any{"body", "configuration", "task", "comands"}}}},
		{"port out of range", `{"configuration":{"type":"task","commands":["a"],"ports":[{"container_port":"x"}]}}`,
			[]fault{{"int_parsing", []any{"body", "configuration", "task", "ports", 0, "container_port"}}}},
		{"nothing to run", `{"configuration":{"type":"task"}}`,
			[]fault{{"value_error", []any{"body", "configuration", "task"}}}},
		{"no type", `{"configuration":{}}`, []fault{{"union_tag_not_found", []any{"body", "configuration"}}}},
		{"unknown fields last", `{"x":1,"configuration":{"type":"task","commands":["a"],"nodes":0}}`,
			[]fault{{"greater_than_equal", []any{"body", "configuration", "task", "nodes"}}, {"extra_forbidden", []any{"body", "x"}}}},
		{"unknown fields everywhere", `{"x":1,"configuration":{"type":"task","commands":["a"]},"profile":{"foo":1}}`,
			[]fault{{"extra_forbidden", []any{"body", "profile", "foo"}}, {"extra_forbidden", []any{"body", "x"}}}},
		{"not JSON", `{"configuration"`, []fault{{"json_invalid", []any{"body", 16}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeRunSpec([]byte(tt.body))
			if diff := cmp.Diff(tt.want, faults(t, err)); diff != "" {
				t.Errorf("%v\n(-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestDecodeRunSpecDefaultsAndRoundTrip(t *testing.T) {
	t.Parallel()
	const body = `{"run_name":"a","repo_id":"none","repo_data":{"repo_type":"virtual"},` +
		`"configuration":{"type":"task","commands":["a"],"max_duration":"2h"},` +
		`"profile":{"name":"p","idle_duration":"off"},` +
		`"file_archives":[{"id":"0B4C4F0C8F5E4B1D9C6B3D1D1C8C6C6C","path":"x"}]}`
	spec, err := decodeRunSpec([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if got := spec.FileArchives[0].ID; got != "0b4c4f0c-8f5e-4b1d-9c6b-3d1d1c8c6c6c" {
		t.Errorf("archive id %s", got)
	}
	first, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	again, err := decodeRunSpec(first)
	if err != nil {
		t.Fatalf("normalised spec is rejected: %v", err)
	}
	second, err := json.Marshal(again)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(first), string(second)); diff != "" {
		t.Errorf("normalising twice (-first +second):\n%s", diff)
	}
}

func decodeRunSpec(data []byte) (RunSpec, error) { return decodeJSON(data, readRunSpec) }

func decodeFaults[T any](t *testing.T, body string) []fault {
	t.Helper()
	_, err := DecodeRequest[T]([]byte(body))
	return faults(t, err)
}

func TestDecodeRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		got, want []fault
	}{
		{"missing fields", decodeFaults[StopRunsRequest](t, `{"runs_names":"x"}`),
			[]fault{{"list_type", []any{"body", "runs_names"}}, {"missing", []any{"body", "abort"}}}},
		{"lax scalars", decodeFaults[StopRunsRequest](t, `{"runs_names":[1],"abort":"yes"}`), nil},
		{"limit", decodeFaults[PollLogsRequest](t, `{"run_name":"a","job_submission_id":"0b4c4f0c-8f5e-4b1d-9c6b-3d1d1c8c6c6c","limit":2000}`),
			[]fault{{"less_than_equal", []any{"body", "limit"}}}},
		{"kinds", decodeFaults[ListRunsRequest](t, `{"limit":"x","only_active":"maybe","prev_submitted_at":"x","prev_run_id":"zz"}`),
			[]fault{{"bool_parsing", []any{"body", "only_active"}}, {"datetime_from_date_parsing", []any{"body", "prev_submitted_at"}},
				{"uuid_parsing", []any{"body", "prev_run_id"}}, {"int_parsing", []any{"body", "limit"}}}},
		{"null where allowed", decodeFaults[ListRunsRequest](t, `{"project_name":null,"job_submissions_limit":null}`), nil},
		{"null where not allowed", decodeFaults[ListRunsRequest](t, `{"only_active":null}`),
			[]fault{{"bool_type", []any{"body", "only_active"}}}},
		{"optional body", decodeFaults[ListProjectsRequest](t, ``), nil},
		{"required body", decodeFaults[ListRunsRequest](t, ``), []fault{{"missing", []any{"body"}}}},
		{"not an object", decodeFaults[ListRunsRequest](t, `[]`), []fault{{"model_attributes_type", []any{"body"}}}},
		{"unknown field", decodeFaults[GetRunRequest](t, `{"name":"a"}`), []fault{{"extra_forbidden", []any{"body", "name"}}}},
		{"unknown field below plan", decodeFaults[ApplyFleetPlanRequest](t, `{"force":false,"plan":{"spec":{"configuration":{"type":"fleet","x":1},"profile":{}}}}`),
			[]fault{{"extra_forbidden", []any{"body", "plan", "spec", "configuration", "x"}}}},
		{"echoed resource may have more", decodeFaults[ApplyFleetPlanRequest](t,
			`{"force":true,"plan":{"spec":{"configuration":{"type":"fleet","nodes":1},"profile":{}},"current_resource":{"id":"i","new":1,"spec":{"y":2}}}}`), nil},
		{"repo of a kind", decodeFaults[SaveRepoCredsRequest](t, `{"repo_id":"r","repo_info":{"repo_type":"virtual","x":1}}`),
			[]fault{{"extra_forbidden", []any{"body", "repo_info", "virtual", "x"}}}},
		{"repo of no kind", decodeFaults[SaveRepoCredsRequest](t, `{"repo_id":"r","repo_info":{"repo_type":"svn"}}`),
			[]fault{{"enum", []any{"body", "repo_info"}}}},
		{"two targets", decodeFaults[ListEventsRequest](t, `{"target_runs":["0b4c4f0c-8f5e-4b1d-9c6b-3d1d1c8c6c6c"],"target_users":["0b4c4f0c-8f5e-4b1d-9c6b-3d1d1c8c6c6c"],"actors":[null]}`),
			[]fault{{"value_error", []any{"body"}}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func FuzzDecodeRunSpec(f *testing.F) {
	f.Add([]byte(`{"configuration":{"type":"task","commands":["a"],"resources":{"gpu":"A100:2"}},"profile":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := decodeRunSpec(data)
		if err != nil {
			return
		}
		normal, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRunSpec(normal); err != nil {
			t.Fatalf("normalised spec is rejected: %v\n%s", err, normal)
		}
	})
}
