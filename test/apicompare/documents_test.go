package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompareDocuments(t *testing.T) {
	document := func(required, request, answer string) any {
		return decode([]byte(`{"paths":{"/a":{"post":{
			"requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/In"}}}},
			"responses":{"200":{"content":{"application/json":{"schema":{"type":"array","items":{"properties":{` + answer + `}}}}}}}}}},
			"components":{"schemas":{"In":{"properties":{` + request + `},"required":[` + required + `],"additionalProperties":false}}}}`))
	}
	for _, tt := range []struct {
		name       string
		real, ours any
		want       []string
	}{
		{"equal", document(`"x"`, `"x":{},"y":{}`, `"z":{}`), document(`"x"`, `"x":{},"y":{}`, `"z":{}`), nil},
		{"more in ours", document(``, `"x":{}`, `"z":{}`), document(``, `"x":{},"y":{}`, `"z":{},"w":{}`), nil},
		{"more is required", document(``, `"x":{}`, ``), document(`"x"`, `"x":{}`, ``), []string{"POST /a request.x"}},
		{"less is taken", document(``, `"x":{},"y":{}`, ``), document(``, `"x":{}`, ``), []string{"POST /a request.y"}},
		{"less is answered", document(``, ``, `"z":{},"w":{}`), document(``, ``, `"z":{}`), []string{"POST /a answer.w"}},
		{"no such path", document(``, ``, ``), decode([]byte(`{"paths":{}}`)), []string{"POST /a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var paths []string
			for _, d := range compareDocuments(tt.real, tt.ours) {
				paths = append(paths, d.path)
			}
			if diff := cmp.Diff(tt.want, paths); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
