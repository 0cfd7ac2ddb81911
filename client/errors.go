package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"dstack/protocol/api"
)

// APIError is an answer that says no.
type APIError struct {
	// URL was called and answered with Status.
	URL    string
	Status int
	// Code is one of the codes of package api, or empty.
	Code string
	// Msg is the server's own sentence, if it gave one. For status 422 it has
	// a line for each fault.
	Msg string
	// noProject is set when the server knows the endpoint but not the project.
	noProject bool
}

// Error is a text for the user. The first words are those of 0.22.5, for
// scripts.
func (e *APIError) Error() string {
	switch {
	case (e.Status == 400 || e.Status == 503) && e.Msg != "":
		return e.Msg
	case e.Status == 401 || e.Status == 403:
		return e.withMsg(fmt.Sprintf("Access to %s is denied. Please check your access token", e.URL))
	case e.Status == 404 && e.noProject:
		return e.withMsg(fmt.Sprintf("Status code %d when requesting %s", e.Status, e.URL)) + ": the server has no project of this name, choose another one with --project"
	case e.Status == 404 || e.Status == 405:
		return e.withMsg(fmt.Sprintf("Status code %d when requesting %s", e.Status, e.URL))
	case e.Status == 422:
		return "Server validation error:\n" + e.Msg
	case e.Status >= 300 && e.Status < 400:
		return fmt.Sprintf("%s redirects to %s: use that server URL", e.URL, e.Msg)
	}
	return fmt.Sprintf("Unexpected error: status code %d when requesting %s. Check the server logs", e.Status, e.URL)
}

func (e *APIError) withMsg(text string) string {
	if e.Msg == "" {
		return text
	}
	return text + " (" + e.Msg + ")"
}

// IsNotExist says whether err is the answer that something does not exist.
func IsNotExist(err error) bool {
	e, ok := errors.AsType[*APIError](err)
	return ok && e.Code == api.CodeNotExists
}

// IsUnsupported says whether the server does not know the endpoint.
func IsUnsupported(err error) bool {
	e, ok := errors.AsType[*APIError](err)
	return ok && (e.Status == 404 && !e.noProject || e.Status == 405)
}

// ConnectionError says that no answer came.
type ConnectionError struct {
	BaseURL string
	Err     error
}

func (e *ConnectionError) Error() string {
	return fmt.Sprintf("Failed to connect to dstack server %s: %v. Check that the server runs and that its URL is right (dstack project list)", e.BaseURL, e.Err)
}

func (e *ConnectionError) Unwrap() error { return e.Err }

// parseError reads an error answer. Anything unreadable leaves Msg empty.
func parseError(url string, status int, body []byte) *APIError {
	e := &APIError{URL: url, Status: status}
	var outer struct {
		Detail json.RawMessage `json:"detail"`
		Msg    string          `json:"msg"`
	}
	if json.Unmarshal(body, &outer) != nil {
		return e
	}
	e.Msg = outer.Msg
	var list []detail
	var one detail
	var text string
	switch {
	case json.Unmarshal(outer.Detail, &list) == nil:
		lines := make([]string, len(list))
		for i, d := range list {
			lines[i] = d.line()
		}
		e.Msg = strings.Join(lines, "\n")
		if len(list) == 1 && list[0].Code != nil {
			e.Code = *list[0].Code
		}
	case json.Unmarshal(outer.Detail, &one) == nil:
		e.Msg, e.noProject = one.Msg, status == 404
		if one.Code != nil {
			e.Code = *one.Code
		}
	case json.Unmarshal(outer.Detail, &text) == nil:
		e.Msg = text
	}
	return e
}

// detail is one error of an answer: code and fields for 400, loc for 422.
type detail struct {
	Msg    string     `json:"msg"`
	Code   *string    `json:"code"`
	Fields [][]string `json:"fields"`
	Loc    []any      `json:"loc"`
}

func (d detail) line() string {
	if len(d.Loc) == 0 {
		return d.Msg
	}
	parts := make([]string, len(d.Loc))
	for i, p := range d.Loc {
		parts[i] = fmt.Sprint(p)
	}
	return strings.TrimPrefix(strings.Join(parts, "."), "body.") + ": " + d.Msg
}
