package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"dstack/controller/api"
)

const (
	// healthLimit is how long a server may take to say how it is.
	healthLimit = 5 * time.Second
	// mostHealth is how long its answer may be, in bytes.
	mostHealth = 64 << 10
)

// Health asks the server that runs on this machine with these settings how it
// is, and prints that. The error is one sentence for the user: nobody answers,
// or the server can't work. A replica that can't be reached is no error, since
// the server serves on.
func Health(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	url := cfg.Settings.ownURL()
	answer, err := askHealth(ctx, url)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the server at %s does not answer within %s: it is starting, or hangs", url, healthLimit)
	}
	if err != nil {
		return err
	}
	if _, err := io.WriteString(cfg.Out, healthText(url, answer.Replication)+"\n"); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// healthAnswer is what is read of /healthcheck.
type healthAnswer struct {
	Status      string           `json:"status"`
	Replication *api.Replication `json:"replication"`
}

func askHealth(ctx context.Context, url string) (healthAnswer, error) {
	var answer healthAnswer
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthcheck", nil)
	if err != nil {
		return answer, fmt.Errorf("make request: %w", err)
	}
	// A transport of its own: no proxy stands between a machine and itself.
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer, fmt.Errorf("no server answers at %s: %w; start it with dstack server, or correct DSTACK_SERVER_HOST and DSTACK_SERVER_PORT", url, err)
	}
	defer response.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(io.LimitReader(response.Body, mostHealth))
	if err != nil {
		return answer, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	// Another program may have the port, and answer anything.
	broken := json.Unmarshal(body, &answer) != nil
	switch {
	case response.StatusCode >= http.StatusInternalServerError:
		return answer, fmt.Errorf("the server at %s can't work: it answers %s; its log says why", url, response.Status)
	case response.StatusCode != http.StatusOK || broken || answer.Status != "running":
		return answer, fmt.Errorf("what answers at %s is no dstack server: choose another port with --port or DSTACK_SERVER_PORT", url)
	}
	return answer, nil
}

func healthText(url string, replication *api.Replication) string {
	text := "The dstack server at " + url + " is running"
	if replication == nil {
		return text
	}
	lag := time.Duration(replication.LagSeconds * float64(time.Second)).Round(100 * time.Millisecond)
	switch {
	case replication.Failing:
		return fmt.Sprintf("%s, but its replica gets no changes: it is %s behind", text, lag)
	case lag > 0:
		return fmt.Sprintf("%s; its replica is %s behind", text, lag)
	}
	return text + "; its replica is complete"
}

// ownURL is where the server is reached from its own machine: a server that
// listens on all addresses also listens on the local one.
func (s *Settings) ownURL() string {
	host := s.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(s.Port))
}
