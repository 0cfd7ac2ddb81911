// Package engine drives runs, jobs, instances and fleets. Deciding is pure
// (run.go, job.go, instance.go, fleet.go); reading, committing and starting
// effects are in pass.go and effects.go; what is seen on hosts comes in
// through observe.go, what users want through submit.go, runs.go and
// fleets.go. See docs/development/engine.md.
package engine
