//go:build e2e

package logship

import (
	"net/http/httptest"
	"net/url"
	"testing"

	"dstack/controller/logs/gcplogging/gcptest"
	"dstack/test/storages"
)

// TestGCPLogging uses a double: there is no emulator of Google Cloud Logging.
func TestGCPLogging(t *testing.T) {
	t.Parallel()
	double := httptest.NewServer(&gcptest.Double{})
	t.Cleanup(double.Close)
	u, err := url.Parse(double.URL)
	must(t, err)
	p := storages.NewProxy(t, u.Host)
	exercise(t, &place{
		proxy: p, env: []string{"DSTACK_SERVER_GCP_LOGGING_PROJECT=p", "DSTACK_SERVER_GCP_LOGGING_ENDPOINT=http://" + p.Address},
		link: "https://console.cloud.google.com/logs/query;query=logName",
	})
}
