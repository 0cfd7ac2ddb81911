package fluentbit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"dstack/controller/logs/ship"
)

// record is one in JSON.
type record struct {
	Message   string `json:"message"`
	Timestamp string `json:"@timestamp"`
	Stream    string `json:"stream"`
}

// post sends a message as a list of records to /TAG.
func (r *Receiver) post(ctx context.Context, m message) error {
	records := make([]record, len(m.events))
	for i, e := range m.events {
		records[i] = record{ship.Text(e.Data), at(e.At), m.stream}
	}
	body, err := json.Marshal(records)
	if err != nil {
		return fmt.Errorf("encode records: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Name()+"/"+m.tag, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(limited(response.Body))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("it answered %s: %.200s", response.Status, text)
	}
	return nil
}
