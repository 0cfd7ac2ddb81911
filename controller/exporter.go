package controller

import (
	"time"

	"dstack/controller/api"
	"dstack/controller/prometheus"
)

// exporter counts for Prometheus; it always does, so that nothing is missing
// when it is switched on.
func (s *Server) exporter() *prometheus.Exporter {
	gauges := prometheus.Gauges{
		Queue: func() int { return s.engine.QueueLength() },
		Hosts: func() int { return s.engine.HostsUp() },
	}
	if s.replica != nil {
		gauges.Replica = func() (time.Duration, int64) {
			st := s.replica.Status()
			return st.Lag, st.Failures
		}
	}
	if s.bucket != nil {
		gauges.Archives = func() int64 { return s.files.Failures() }
	}
	if s.shipper != nil {
		gauges.Logs = func() prometheus.LogGauges {
			st := s.shipper.Status()
			return prometheus.LogGauges{Bytes: st.Bytes, Lag: st.Lag, Failures: st.Failures, Lost: s.logsLost.Load()}
		}
	}
	return prometheus.New(s.store, s.cfg.Now, gauges)
}

// scraped is who answers Prometheus; nil if it is switched off.
func (s *Server) scraped(e *prometheus.Exporter) api.Prometheus {
	if !s.cfg.Settings.Metrics.Prometheus {
		return nil
	}
	return e
}
