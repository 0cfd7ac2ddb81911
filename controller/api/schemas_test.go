package api

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

func TestSchemasNeedNoToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, title := range map[string]string{"configuration": "dstack configuration", "profiles": "dstack profiles"} {
		got, err := http.Get(r.server.URL + "/api/docs/schemas/" + name + ".json") //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		got.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var schema struct {
			Title string `json:"title"`
		}
		if err := json.Unmarshal(body, &schema); err != nil || got.StatusCode != http.StatusOK || schema.Title != title {
			t.Errorf("%s: %s, %v, title %q", name, got.Status, err, schema.Title)
		}
	}
}
