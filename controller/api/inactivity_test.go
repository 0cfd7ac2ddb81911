package api

import (
	"testing"

	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// TestInactivitySecs shows the seconds for development environments with a
// limit, while they run.
func TestInactivitySecs(t *testing.T) {
	t.Parallel()
	instance, limit := "i1", 600
	limited := config.Run{DevEnvironment: &config.DevEnvironment{InactivityDuration: &limit}}
	for name, tt := range map[string]struct {
		configuration config.Run
		status        api.JobStatus
		job           string
		want          int // -1: null
	}{
		"running":       {limited, api.JobRunning, "j1", 42},
		"not known":     {limited, api.JobRunning, "j2", -1},
		"ended":         {limited, api.JobTerminated, "j1", -1},
		"without limit": {config.Run{DevEnvironment: &config.DevEnvironment{}}, api.JobRunning, "j1", -1},
		"task":          {config.Run{Task: &config.Task{}}, api.JobRunning, "j1", -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := runView(runRows{
				run:      &store.Run{ID: "r", Name: "dev", Spec: api.RunSpec{Configuration: tt.configuration}},
				jobs:     []store.Job{{ID: tt.job, Status: tt.status, InstanceID: &instance}},
				runShape: runShape{submissions: 1},
				idle:     func(i, j string) (int, bool) { return 42, i == "i1" && j == "j1" },
			})
			got := -1
			if secs := v.LatestJobSubmission.InactivitySecs; secs != nil {
				got = *secs
			}
			if got != tt.want {
				t.Errorf("inactivity_secs %d, want %d", got, tt.want)
			}
		})
	}
}
