// Package gcptest is a double of Google Cloud Logging for tests, written after
// Google's documentation of entries.write and entries.list: filters that are
// relations joined by AND, order, pages, insertIds.
package gcptest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Double answers requests. Its zero value has no entries.
type Double struct {
	// Page is how many entries a page has at most; 0: as many as asked for.
	Page int
	// Status, if set, is the status of all answers.
	Status int

	mu      sync.Mutex
	entries []entry
}

type entry struct {
	LogName     string            `json:"logName"`
	InsertID    string            `json:"insertId"`
	Timestamp   time.Time         `json:"timestamp"`
	TextPayload string            `json:"textPayload"`
	Labels      map[string]string `json:"labels"`
}

type request struct {
	LogName       string            `json:"logName"`
	Labels        map[string]string `json:"labels"`
	Entries       []entry           `json:"entries"`
	DryRun        bool              `json:"dryRun"`
	ResourceNames []string          `json:"resourceNames"`
	Filter        string            `json:"filter"`
	OrderBy       string            `json:"orderBy"`
	PageSize      int               `json:"pageSize"`
	PageToken     string            `json:"pageToken"`
}

// ServeHTTP implements [http.Handler].
func (d *Double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var in request
	err := json.NewDecoder(r.Body).Decode(&in)
	var out any = struct{}{}
	status := cmp.Or(d.Status, http.StatusOK)
	switch {
	case err != nil || r.Method != http.MethodPost:
		status = http.StatusBadRequest
	case status != http.StatusOK:
	case r.URL.Path == "/v2/entries:write":
		d.write(in)
	case r.URL.Path == "/v2/entries:list":
		if out, err = d.list(in); err != nil {
			status = http.StatusBadRequest
		}
	default:
		status = http.StatusNotFound
	}
	if status != http.StatusOK {
		out = map[string]any{"error": map[string]any{"code": status, "message": fmt.Sprint("as told: ", err)}}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) //nolint:errchkjson // of types above
}

func (d *Double) write(in request) {
	if in.DryRun {
		return
	}
	for _, e := range in.Entries {
		e.LogName, e.Labels = in.LogName, in.Labels
		same := func(x entry) bool {
			return x.InsertID == e.InsertID && x.Timestamp.Equal(e.Timestamp) && x.LogName == e.LogName
		}
		if !slices.ContainsFunc(d.entries, same) {
			d.entries = append(d.entries, e)
		}
	}
}

var relation = regexp.MustCompile(`^(logName|labels\.stream|timestamp) (=|<|<=|>|>=) "([^"]*)"$`)

func (d *Double) list(in request) (any, error) {
	var found []entry
	for _, e := range d.entries {
		ok := true
		for part := range strings.SplitSeq(in.Filter, " AND ") {
			m := relation.FindStringSubmatch(part)
			if m == nil {
				return nil, fmt.Errorf("filter %q", part)
			}
			order := strings.Compare(map[string]string{"logName": e.LogName, "labels.stream": e.Labels["stream"]}[m[1]], m[3])
			if m[1] == "timestamp" {
				at, err := time.Parse(time.RFC3339Nano, m[3])
				if err != nil {
					return nil, fmt.Errorf("time %q", m[3])
				}
				order = e.Timestamp.Compare(at)
			}
			ok = ok && (order == 0 && strings.Contains(m[2], "=") || order < 0 && m[2][0] == '<' || order > 0 && m[2][0] == '>')
		}
		if ok {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b entry) int {
		byTime := a.Timestamp.Compare(b.Timestamp)
		if in.OrderBy == "timestamp desc" {
			byTime = -byTime
		}
		return cmp.Or(byTime, cmp.Compare(a.InsertID, b.InsertID))
	})
	from, _ := strconv.Atoi(in.PageToken)
	size := cmp.Or(d.Page, in.PageSize)
	page := found[min(from, len(found)):min(from+size, len(found))]
	next := ""
	if from+size < len(found) {
		next = strconv.Itoa(from + size)
	}
	return map[string]any{"entries": page, "nextPageToken": next}, nil
}
