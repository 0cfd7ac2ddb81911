package controller

import "time"

// MetricsSettings are the settings of metrics (spec: server-operations.md 3, 8).
type MetricsSettings struct {
	// RunningTTL and FinishedTTL are how long is kept what jobs used that
	// run, and that have ended.
	RunningTTL  time.Duration
	FinishedTTL time.Duration
	// Prometheus serves /metrics, to those who know PrometheusToken if it is
	// not empty.
	Prometheus      bool
	PrometheusToken string
}

func metricsSettings(env *environment) MetricsSettings {
	seconds := func(name string, otherwise int) time.Duration {
		return time.Duration(env.number(name, otherwise)) * time.Second
	}
	return MetricsSettings{
		RunningTTL:      seconds("DSTACK_SERVER_METRICS_RUNNING_TTL_SECONDS", 3600),
		FinishedTTL:     seconds("DSTACK_SERVER_METRICS_FINISHED_TTL_SECONDS", 7*24*3600),
		Prometheus:      env.on("DSTACK_ENABLE_PROMETHEUS_METRICS"),
		PrometheusToken: env.text("DSTACK_PROMETHEUS_AUTH_TOKEN", ""),
	}
}
