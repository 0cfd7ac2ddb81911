package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"dstack/protocol/api"
)

// titles name the parts of a specification in a list of changes.
var titles = map[string]string{
	"configuration":  "Configuration properties",
	"profile":        "Profile properties",
	"repo_id":        "Repo ID",
	"repo_code_hash": "Repo files",
	"repo_data":      "Repo state (branch, commit, or other)",
	"ssh_key_pub":    "Public SSH key",
}

// RunChanges lists what differs between two run specifications, one line
// each; nil means nothing.
func RunChanges(before, after api.RunSpec) []string { return changes(before, after) }

// FleetChanges lists what differs between two fleet specifications.
func FleetChanges(before, after api.FleetSpec) []string { return changes(before, after) }

func changes(before, after any) []string {
	was, is := object(before), object(after)
	var lines []string
	for _, field := range changed(was, is) {
		if field == "merged_profile" || field == "configuration_path" {
			continue
		}
		title := titles[field]
		if title == "" {
			title = capitalized(strings.ReplaceAll(field, "_", " "))
		}
		if field != "configuration" && field != "profile" {
			lines = append(lines, "- "+title)
			continue
		}
		lines = append(lines, "- "+title+":")
		a, b := inner(was[field]), inner(is[field])
		for _, name := range changed(a, b) {
			lines = append(lines, "  - "+name+values(a[name], b[name]))
		}
	}
	return lines
}

// values shows old and new of a plain value; texts and structures may hold
// secrets and stay out.
func values(was, is json.RawMessage) string {
	plain := func(v json.RawMessage) bool {
		return len(v) > 0 && (v[0] == '-' || (v[0] >= '0' && v[0] <= '9') || string(v) == "true" || string(v) == "false" || string(v) == "null")
	}
	if !plain(was) || !plain(is) {
		return ""
	}
	return fmt.Sprintf(": %s → %s", was, is)
}

func object(v any) map[string]json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		return nil // specifications always encode
	}
	return inner(data)
}

func inner(data json.RawMessage) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil
	}
	return fields
}

func changed(was, is map[string]json.RawMessage) []string {
	var names []string
	for name := range is {
		if !bytes.Equal(was[name], is[name]) {
			names = append(names, name)
		}
	}
	for name := range was {
		if _, there := is[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// capitalized writes the first letter large.
func capitalized(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// ConfigurationChanges lists the fields that differ between two
// configurations of a volume or gateway.
func ConfigurationChanges(before, after any) []string {
	was, is := object(before), object(after)
	var lines []string
	for _, name := range changed(was, is) {
		lines = append(lines, "- "+name+values(was[name], is[name]))
	}
	return lines
}
