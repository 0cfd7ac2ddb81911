package config

import (
	"encoding/json"
	"strings"
	"testing"

	"dstack/protocol/internal/decode"
)

// checkCase compares a decoder with a verdict of 0.22.5.
func checkCase(t *testing.T, c corpusCase, value any, err error) {
	t.Helper()
	if !c.Valid {
		if err == nil {
			t.Fatalf("accepted, want error %q", c.ErrorGist)
		}
		place, _, hasPlace := strings.Cut(strings.Split(c.ErrorGist, "; ")[0], ": ")
		if hasPlace && !strings.ContainsAny(place, " ") && !strings.Contains(err.Error(), place) {
			t.Errorf("error does not name %q:\n%v", place, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("rejected: %v", err)
	}
	got, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diffJSON(t, c.Normalized, got); diff != "" {
		t.Errorf("normalised (-want +got):\n%s", diff)
	}
}

func (a Apply) value() any {
	switch {
	case a.Fleet != nil:
		return a.Fleet
	case a.Gateway != nil:
		return a.Gateway
	case a.Volume != nil:
		return a.Volume
	case a.Preset != nil:
		return a.Preset
	}
	return a.Run
}

func TestCorpusApply(t *testing.T) {
	t.Parallel()
	for _, c := range corpus(t, "apply") {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeApply(".dstack.yml", []byte(c.YAML))
			checkCase(t, c, got.value(), err)
			if !c.Valid || err != nil {
				return
			}
			root, err := decode.JSON(c.Normalized)
			if err != nil {
				t.Fatal(err)
			}
			again, err := decode.Read("", root, readApply)
			checkCase(t, c, again.value(), err)
		})
	}
}

func TestCorpusProfiles(t *testing.T) {
	t.Parallel()
	for _, c := range corpus(t, "profile") {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeProfiles("profiles.yml", []byte(c.YAML))
			checkCase(t, c, map[string]any{"profiles": List[Profile](got)}, err)
		})
	}
}

func TestCorpusServer(t *testing.T) {
	t.Parallel()
	for _, c := range corpus(t, "server-config") {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeServer("config.yml", []byte(c.YAML), OSFile)
			checkCase(t, c, got, err)
			if err != nil {
				return
			}
			for _, p := range got.Projects {
				for _, b := range p.Backends {
					checkBackend(t, b)
				}
			}
		})
	}
}

// checkBackend reads a backend again as the server keeps it, and looks for
// credentials in what the public sees.
func checkBackend(t *testing.T, b Backend) {
	t.Helper()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var again Backend
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	second, err := json.Marshal(again)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diffJSON(t, text, second); diff != "" {
		t.Errorf("stored (-first +second):\n%s", diff)
	}
	public, err := b.Public()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"creds", "_key", "secret", "kubeconfig", "hostname\":\"login"} {
		if strings.Contains(string(public), word) {
			t.Errorf("public form has %q: %s", word, public)
		}
	}
}
