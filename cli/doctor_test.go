package cli

import (
	"testing"
	"time"

	"dstack/client"
)

func TestCheckClock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ahead time.Duration
		want  checkStatus
		text  string
	}{
		{0, checkOK, "agrees with the server's"},
		{5 * time.Second, checkOK, "this machine is 5s ahead of the server"},
		{-time.Minute, checkWarn, "this machine is 1m0s behind the server"},
		{time.Hour, checkFail, "this machine is 1h0m0s ahead of the server"},
	} {
		got := checkClock(fakeStart, fakeStart.Add(tt.ahead))
		if got.Status != tt.want || got.Message != tt.text || (got.Advice == "") != (got.Status == checkOK) {
			t.Errorf("%v: %+v", tt.ahead, got)
		}
	}
	if got := checkClock(time.Time{}, fakeStart); got.Status != checkWarn {
		t.Errorf("no time: %+v", got)
	}
}

func TestServerVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]checkStatus{"0.22.5": checkOK, "0.22.9": checkOK, "0.21.0": checkWarn, "1": checkWarn} {
		if got := serverVersion("http://x", client.Probe{Version: version}); got.Status != want {
			t.Errorf("%s: %+v", version, got)
		}
	}
}
