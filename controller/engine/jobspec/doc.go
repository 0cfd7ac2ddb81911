// Package jobspec turns what a user applied into what a host runs: a run's
// specification into those of its jobs (spec: job-execution.md 7), and a job
// with its place into the task for the shim. It is pure.
package jobspec
