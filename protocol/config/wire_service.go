package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// MarshalJSON writes a reference or a boolean.
func (g ServiceGateway) MarshalJSON() ([]byte, error) {
	if g.Ref != nil {
		return json.Marshal(g.Ref)
	}
	return json.Marshal(g.Enabled)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (g *ServiceGateway) UnmarshalJSON(b []byte) error {
	*g = ServiceGateway{}
	if !bytes.HasPrefix(b, []byte("{")) {
		return json.Unmarshal(b, &g.Enabled)
	}
	g.Enabled = true
	return json.Unmarshal(b, &g.Ref)
}

// MarshalJSON writes "auto" or a boolean.
func (h HTTPS) MarshalJSON() ([]byte, error) {
	if h.Auto {
		return []byte(`"auto"`), nil
	}
	return json.Marshal(h.On)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (h *HTTPS) UnmarshalJSON(b []byte) error {
	*h = HTTPS{}
	if string(b) == `"auto"` {
		h.Auto = true
		return nil
	}
	return json.Unmarshal(b, &h.On)
}

// wireOpenAI and wireTGI are the formats of Model on the wire.
type wireOpenAI struct {
	Type   string `json:"type"`
	Name   string `json:"name"`
	Format string `json:"format"`
	Prefix string `json:"prefix"`
}

type wireTGI struct {
	Type         string  `json:"type"`
	Name         string  `json:"name"`
	Format       string  `json:"format"`
	ChatTemplate *string `json:"chat_template"`
	EOSToken     *string `json:"eos_token"`
}

// MarshalJSON writes only the fields of the format.
func (m Model) MarshalJSON() ([]byte, error) {
	if m.Format == ModelTGI {
		return json.Marshal(wireTGI{m.Type, m.Name, m.Format, m.ChatTemplate, m.EOSToken})
	}
	return json.Marshal(wireOpenAI{m.Type, m.Name, m.Format, m.Prefix})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Model) UnmarshalJSON(b []byte) error {
	var w struct {
		wireTGI
		Prefix string `json:"prefix"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read model: %w", err)
	}
	*m = Model{Type: w.Type, Name: w.Name, Format: w.Format, Prefix: w.Prefix, ChatTemplate: w.ChatTemplate, EOSToken: w.EOSToken}
	return nil
}

// probe is the standard probe of a model: it asks for one token. The text of
// its body is that of 0.22.5, byte for byte.
func (m Model) probe() Probe {
	var name bytes.Buffer
	enc := json.NewEncoder(&name)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m.Name); err != nil { // a text: cannot happen
		return Probe{}.Effective()
	}
	body := `{"model": ` + strings.TrimSpace(name.String()) + `, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}`
	return Probe{
		Type: "http", URL: new(strings.TrimRight(m.Prefix, "/") + "/chat/completions"), Method: new("post"),
		Headers: List[ProbeHeader]{{Name: "Content-Type", Value: "application/json"}},
		Body:    &body, Timeout: new(modelProbeLimit),
	}.Effective()
}

// key tells probes apart: equal ones have equal keys.
func (p Probe) key() string {
	text, err := json.Marshal(p)
	if err != nil { // texts and numbers only: cannot happen
		return err.Error()
	}
	return string(text)
}
