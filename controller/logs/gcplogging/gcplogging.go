// Package gcplogging keeps logs in Google Cloud Logging: the log dstack-run-logs
// of a project, with the label stream = PROJECT-RUN-JOB-job, or ...-runner for
// the agent's log, as 0.22.5 does (spec: server-operations.md 6).
//
// It speaks the REST API of version 2 (entries.write, entries.list): Google's
// library needs gRPC. Entries carry an insertId, by which Google drops what is
// sent again.
package gcplogging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"dstack/controller/logs"
	"dstack/controller/logs/ship"
)

// Variable names the project. The endpoint is another address of the API, for
// private ones and tests; it gets no credentials if it is http.
const (
	Variable         = "DSTACK_SERVER_GCP_LOGGING_PROJECT"
	VariableEndpoint = "DSTACK_SERVER_GCP_LOGGING_ENDPOINT"
)

const (
	scope = "https://www.googleapis.com/auth/cloud-platform"
	logID = "dstack-run-logs"
	// delay is how long lines wait for more.
	delay = 2 * time.Second
	// maxEntries and maxMessage are what 0.22.5 sends at most: entries at once,
	// and bytes of one.
	maxEntries = 100
	maxMessage = 32 << 10
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 64 << 20
)

// Options say where logs go.
type Options struct {
	Project  string
	Endpoint string // empty: Google's
	Getenv   func(string) string
}

// Log is the log of a project.
type Log struct {
	opts Options
	http *http.Client
	base string
}

// apiError is an answer that is no success.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string { return fmt.Sprintf("it answered %d: %s", e.status, e.message) }

// Open finds the credentials. Nothing is asked of Google Cloud Logging yet.
func Open(ctx context.Context, opts Options) (*Log, error) {
	l := &Log{opts: opts, http: &http.Client{}, base: "https://logging.googleapis.com"}
	if opts.Endpoint != "" {
		l.base = strings.TrimSuffix(opts.Endpoint, "/")
	}
	if strings.HasPrefix(l.base, "http://") {
		return l, nil
	}
	ctx = context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, l.http)
	credentials, err := find(ctx, opts.Getenv)
	if err != nil {
		return nil, l.fault("there are no usable credentials ("+err.Error()+")", "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_APPLICATION_CREDENTIALS_JSON")
	}
	l.http = oauth2.NewClient(ctx, credentials.TokenSource)
	return l, nil
}

func find(ctx context.Context, getenv func(string) string) (*google.Credentials, error) {
	text := getenv("GOOGLE_APPLICATION_CREDENTIALS_JSON")
	if text == "" {
		return google.FindDefaultCredentials(ctx, scope)
	}
	var kind struct {
		Type google.CredentialsType `json:"type"`
	}
	if json.Unmarshal([]byte(text), &kind) != nil {
		return nil, errors.New("GOOGLE_APPLICATION_CREDENTIALS_JSON is no JSON") // the cause would quote the secret
	}
	return google.CredentialsFromJSONWithType(ctx, []byte(text), kind.Type, scope)
}

// Name is the project.
func (l *Log) Name() string { return "gcplogging:" + l.opts.Project }

// Traits say that events wait a moment for more.
func (*Log) Traits() ship.Traits { return ship.Traits{Delay: delay} }

func (l *Log) fault(problem, remedy string) error {
	return fmt.Errorf("Google Cloud Logging of project %s: %s; %s", l.opts.Project, problem, remedy) //nolint:staticcheck // a name
}

func stream(k logs.Key) string {
	producer, job := k.Producer()
	return strings.Join([]string{k.Project, k.Run, job, producer}, "-")
}

func (l *Log) name() string { return "projects/" + l.opts.Project + "/logs/" + logID }

func (l *Log) filter(k logs.Key) string {
	return fmt.Sprintf(`logName = "%s" AND labels.stream = "%s"`, l.name(), stream(k))
}

// URL is the log's page in Google's console.
func (l *Log) URL(k logs.Key) string {
	return "https://console.cloud.google.com/logs/query;query=" + url.PathEscape(l.filter(k)) + "?project=" + url.QueryEscape(l.opts.Project)
}

// Check asks whether entries may be written, without writing any.
func (l *Log) Check(ctx context.Context) error {
	return l.call(ctx, "/v2/entries:write", writeRequest{LogName: l.name(), Resource: global(), Entries: []entry{{TextPayload: "check"}}, DryRun: true}, nil)
}

type resource struct {
	Type string `json:"type"`
}

func global() resource { return resource{"global"} }

type writeRequest struct {
	LogName  string            `json:"logName"`
	Resource resource          `json:"resource"`
	Labels   map[string]string `json:"labels,omitempty"`
	Entries  []entry           `json:"entries"`
	DryRun   bool              `json:"dryRun,omitempty"`
}

type entry struct {
	InsertID    string     `json:"insertId,omitempty"`
	Timestamp   *time.Time `json:"timestamp,omitempty"`
	TextPayload string     `json:"textPayload"`
}

// Put writes some events; those of more than 32 KiB in parts with one time.
func (l *Log) Put(ctx context.Context, b ship.Batch) (int, error) {
	request := writeRequest{LogName: l.name(), Resource: global(), Labels: map[string]string{"stream": stream(b.Key)}}
	n := 0
	for ; n < len(b.Events); n++ {
		e := b.Events[n]
		parts := split(ship.Text(e.Data))
		if n > 0 && len(request.Entries)+len(parts) > maxEntries {
			break
		}
		for i, text := range parts {
			// The byte's place names a part; names of one time are in its order.
			id := fmt.Sprintf("%s-%015d-%d", b.Key.JobID, e.Offset, i)
			request.Entries = append(request.Entries, entry{InsertID: id, Timestamp: &e.At, TextPayload: text})
		}
	}
	if err := l.call(ctx, "/v2/entries:write", request, nil); err != nil {
		return 0, err
	}
	return n, nil
}

// split cuts a text into parts of at most maxMessage bytes, between characters.
func split(text string) []string {
	var parts []string
	for len(text) > maxMessage {
		n := maxMessage
		for !utf8.RuneStart(text[n]) {
			n--
		}
		parts = append(parts, text[:n])
		text = text[n:]
	}
	return append(parts, text)
}

// call posts in and decodes the answer into out. Its errors name the project.
func (l *Log) call(ctx context.Context, path string, in, out any) error {
	err := l.post(ctx, path, in, out)
	if err == nil {
		return nil
	}
	status := 0
	if e, ok := errors.AsType[*apiError](err); ok {
		status = e.status
	}
	_, refused := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case refused || status == http.StatusUnauthorized:
		return l.fault("Google does not accept the credentials", "correct GOOGLE_APPLICATION_CREDENTIALS")
	case status == http.StatusForbidden:
		return l.fault("these credentials may not use it, or it is not enabled ("+err.Error()+")", "give them roles/logging.logWriter and roles/logging.viewer")
	case status == http.StatusNotFound:
		return l.fault("the project does not exist", "correct "+Variable)
	case status == http.StatusBadRequest:
		return l.fault(err.Error(), "correct "+Variable)
	}
	return &ship.UnreachableError{Err: fmt.Errorf("Google Cloud Logging of project %s can't be reached, or fails: %w", l.opts.Project, err)} //nolint:staticcheck // a name
}

func (l *Log) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := l.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		var answer struct {
			Error struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		_ = json.Unmarshal(text, &answer) // else the message is empty
		return &apiError{response.StatusCode, answer.Error.Message}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}
