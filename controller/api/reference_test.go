package api

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// described are the calls of the document as "METHOD /path/{parameter}".
func described(t *testing.T) []string {
	t.Helper()
	data, err := Document()
	if err != nil {
		t.Fatal(err)
	}
	if out := os.Getenv("OPENAPI_OUT"); out != "" {
		if err := os.WriteFile(out, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	var out []string
	for path, item := range document.Paths {
		for method := range item {
			out = append(out, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(out)
	return out
}

func TestDocumentListsEachRoute(t *testing.T) {
	var want []string
	all := Routes()
	for _, r := range proxyRoutes() {
		for _, method := range r.methods {
			all = append(all, method+" "+r.path)
		}
	}
	for _, route := range all {
		parts := strings.Split(route, "/")
		for i, part := range parts {
			if name := strings.TrimLeft(part, ":*"); name != part {
				parts[i] = "{" + name + "}"
			}
		}
		want = append(want, strings.Join(parts, "/"))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, described(t)); diff != "" {
		t.Errorf("-registered +described\n%s", diff)
	}
}
