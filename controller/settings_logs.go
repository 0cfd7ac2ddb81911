package controller

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"dstack/controller/logs/cloudwatch"
	"dstack/controller/logs/fluentbit"
	"dstack/controller/logs/gcplogging"
	"dstack/controller/objects"
)

// logsURL names the object storage of logs.
const logsURL = "DSTACK_SERVER_LOGS_URL"

// LogSettings say where logs of jobs are copied to, and how long they stay on
// the server's disk (spec: server-operations.md 3, 6).
type LogSettings struct {
	// URL is an object storage; empty: none.
	URL string
	// CloudWatchGroup is a log group; an empty region is that of the environment.
	CloudWatchGroup, CloudWatchRegion string
	// GCPProject is a project of Google Cloud Logging, GCPEndpoint another address
	// of its API.
	GCPProject, GCPEndpoint string
	// Fluent is a Fluent Bit or Fluentd; an empty host: none.
	Fluent fluentbit.Options
	// Age is how long logs stay on the disk; 0: for ever. Bytes is what all of
	// them may take there, Hard the same for what was not copied yet; 0: any
	// amount.
	Age         time.Duration
	Bytes, Hard int64
}

func logSettings(env *environment) LogSettings {
	return LogSettings{
		URL:              strings.TrimSpace(env.text(logsURL, "")),
		CloudWatchGroup:  env.text(cloudwatch.VariableGroup, ""),
		CloudWatchRegion: env.text(cloudwatch.VariableRegion, ""),
		GCPProject:       env.text(gcplogging.Variable, ""),
		GCPEndpoint:      env.text(gcplogging.VariableEndpoint, ""),
		Fluent: fluentbit.Options{
			Host: env.text(fluentbit.VariableHost, ""), Port: env.number(fluentbit.VariablePort, 24224),
			Protocol: env.text(fluentbit.VariableProtocol, fluentbit.Forward), Prefix: env.text(fluentbit.VariablePrefix, "dstack"),
		},
		Age:   seconds(env.number("DSTACK_SERVER_LOGS_TTL_SECONDS", 0)),
		Bytes: int64(max(0, env.number("DSTACK_SERVER_LOGS_MAX_BYTES", 0))),
		Hard:  int64(max(0, env.number("DSTACK_SERVER_LOGS_HARD_MAX_BYTES", 0))),
	}
}

// set are the variables that name a storage, in the order in which they count;
// that of 0.22.5 behind our own.
func (l LogSettings) set() []string {
	var names []string
	for _, v := range [][2]string{{logsURL, l.URL}, {cloudwatch.VariableGroup, l.CloudWatchGroup}, {gcplogging.Variable, l.GCPProject}, {fluentbit.VariableHost, l.Fluent.Host}} {
		if v[1] != "" {
			names = append(names, v[0])
		}
	}
	return names
}

func (l LogSettings) validate() error {
	if l.Bytes > 0 && l.Hard > 0 && l.Hard < l.Bytes {
		return errors.New("DSTACK_SERVER_LOGS_HARD_MAX_BYTES must not be less than DSTACK_SERVER_LOGS_MAX_BYTES")
	}
	if l.Fluent.Protocol != fluentbit.Forward && l.Fluent.Protocol != fluentbit.HTTP {
		return fmt.Errorf("%s=%q: allowed are forward and http", fluentbit.VariableProtocol, l.Fluent.Protocol)
	}
	if l.Fluent.Port < 1 || l.Fluent.Port > 65535 {
		return fmt.Errorf("%s=%d: allowed are 1 to 65535", fluentbit.VariablePort, l.Fluent.Port)
	}
	if l.URL == "" {
		return nil
	}
	if _, err := objects.Parse(l.URL); err != nil {
		return fmt.Errorf("%s: %w", logsURL, err)
	}
	return nil
}
