// Package notices watches what AWS says on a spot machine about its end: at
// the metadata address, with session tokens (IMDSv2).
package notices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
)

// DefaultBase is where AWS answers. EndpointVariable is AWS's own name for
// another place.
const (
	DefaultBase      = "http://169.254.169.254"
	EndpointVariable = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
)

// Every is how often AWS is asked. A job is to hear of its end within two
// seconds, of which the way to it takes a part.
const Every = time.Second

const (
	callLimit = time.Second
	tokenLife = 6 * time.Hour // the longest that AWS allows
	maxAnswer = 4 << 10
)

// Watcher asks AWS again and again.
type Watcher struct {
	// Base is a URL without a path, [DefaultBase] in real life.
	Base string
	HTTP *http.Client
	// Every is the time between two questions.
	Every time.Duration
	Now   func() time.Time
	Log   zerolog.Logger

	token string
	// said are the answers that were told, word for word.
	said map[string]string
}

// Run tells each notice once, until ctx ends. A rebalance recommendation is not
// told after an interruption notice.
func (w *Watcher) Run(ctx context.Context, tell func(hostapi.Notice)) error {
	w.said = map[string]string{}
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	quiet := true // a service that is not there is complained of once
	for {
		err := w.look(ctx, tell)
		if err != nil && quiet && ctx.Err() == nil {
			w.Log.Warn().Err(err).Msg("notices of the cloud not read")
		}
		quiet = err == nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Paths of the notices.
const (
	pathToken     = "/latest/api/token" //nolint:gosec // no secret
	pathAction    = "/latest/meta-data/spot/instance-action"
	pathRebalance = "/latest/meta-data/events/recommendations/rebalance"
)

// look asks once.
func (w *Watcher) look(ctx context.Context, tell func(hostapi.Notice)) error {
	text, date, err := w.get(ctx, pathAction)
	if err != nil {
		return err
	}
	if text != "" {
		return w.interruption(text, date, tell)
	}
	if w.said[pathAction] != "" {
		return nil
	}
	if text, _, err = w.get(ctx, pathRebalance); err != nil {
		return err
	}
	if text != "" && w.said[pathRebalance] == "" {
		w.said[pathRebalance] = text
		tell(hostapi.Notice{Kind: hostapi.NoticeRebalance})
	}
	return nil
}

func (w *Watcher) interruption(text string, date time.Time, tell func(hostapi.Notice)) error {
	if w.said[pathAction] == text {
		return nil
	}
	n := hostapi.Notice{Kind: hostapi.NoticeInterruption}
	end, err := parseAction(text)
	if err == nil && !end.IsZero() {
		// The host's clock may be wrong; what is left of the time is not.
		n.Ends = w.Now().Add(end.Sub(date)).UTC()
	}
	w.said[pathAction] = text
	// Whatever is wrong with it, it is a notice.
	tell(n)
	return err
}

// parseAction reads when the machine goes, zero if that is not said.
func parseAction(text string) (time.Time, error) {
	var action struct {
		Time time.Time `json:"time"`
	}
	if err := json.Unmarshal([]byte(text), &action); err != nil {
		return time.Time{}, fmt.Errorf("read interruption notice %q: %w", text, err)
	}
	return action.Time, nil
}

// errUnauthorized says that the token is not good any more.
var errUnauthorized = errors.New("the metadata service refuses the token")

// get is what stands at a path, empty if there is nothing, and AWS's time.
func (w *Watcher) get(ctx context.Context, path string) (string, time.Time, error) {
	for again := true; ; again = false {
		if w.token == "" {
			token, _, err := w.call(ctx, http.MethodPut, pathToken,
				"X-Aws-Ec2-Metadata-Token-Ttl-Seconds", fmt.Sprint(int(tokenLife.Seconds())))
			if err != nil {
				return "", time.Time{}, err
			}
			w.token = token
		}
		text, date, err := w.call(ctx, http.MethodGet, path, "X-Aws-Ec2-Metadata-Token", w.token)
		if errors.Is(err, errUnauthorized) {
			w.token = ""
			if again {
				continue
			}
		}
		return text, date, err
	}
}

func (w *Watcher) call(ctx context.Context, method, path, header, value string) (string, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.Base+path, nil)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set(header, value)
	resp, err := w.HTTP.Do(req)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("ask metadata service: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("ask metadata service: %w", err)
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		date = w.Now()
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return strings.TrimSpace(string(body)), date, nil
	case http.StatusNotFound:
		return "", date, nil
	case http.StatusUnauthorized:
		return "", date, errUnauthorized
	}
	return "", date, fmt.Errorf("the metadata service answered %s to %s", resp.Status, path)
}
