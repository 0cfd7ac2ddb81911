//go:build e2e

// Package chaos kills every part of the system at every stage of a job and
// wants the right end each time. CHAOS_CUTS says how many cuts (default 100).
package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// stage is how far a job has come when the cut happens.
type stage string

const (
	queued   stage = "queued"
	pulling  stage = "pulling"
	starting stage = "starting"
	running  stage = "running"
	stopping stage = "stopping"
)

// victim is what is killed.
type victim string

const (
	theServer victim = "server"
	theShim   victim = "shim"
	theAgent  victim = "agent"
	dockerd   victim = "dockerd"
	theHost   victim = "host"
)

var (
	stages  = []stage{queued, pulling, starting, running, stopping}
	victims = []victim{theServer, theShim, theAgent, dockerd, theHost}
)

var errNotYet = errors.New("not yet")

// host is a machine with its fleet's name.
type host struct {
	*lab.Machine
	fleet       string
	liveRestore bool
}

type world struct {
	server *lab.Server
	hosts  []host
}

func TestChaos(t *testing.T) {
	cuts := 100
	if text := os.Getenv("CHAOS_CUTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("CHAOS_CUTS: %v", err)
		}
		cuts = n
	}
	w := build(t)
	for i := range cuts {
		// Coprime strides, so that a few cuts already mix stages and victims.
		c := cut{stage: stages[i%len(stages)], victim: victims[(i/len(stages)+i)%len(victims)], host: w.hosts[i/25%len(w.hosts)], number: i}
		if c.victim == theAgent && (c.stage == queued || c.stage == pulling) {
			c.victim = theShim // there is no agent yet
		}
		ok := t.Run(fmt.Sprintf("%03d-%s-%s-%s", i, c.stage, c.victim, c.host.fleet), func(t *testing.T) { w.run(t, c) })
		if !ok {
			t.Logf("server log: %s", tail(w.server.Log(), 40))
		}
	}
}

func build(t *testing.T) *world {
	ctx := t.Context()
	l := lab.OpenFor(t)
	w := &world{server: lab.ServerFor(t, nil)}
	for _, live := range []bool{true, false} {
		m, err := l.NewMachine(ctx, lab.MachineOptions{LiveRestore: live, Images: []string{lab.Busybox}})
		if err != nil {
			t.Fatal(err)
		}
		h := host{Machine: m, fleet: "plain", liveRestore: live}
		if live {
			h.fleet = "live"
		}
		if result, err := w.server.ApplyFleet(ctx, h.fleet, m); err != nil || result.Exit != 0 {
			t.Fatalf("%+v, %v", result, err)
		}
		w.hosts = append(w.hosts, h)
	}
	return w
}

// cut is one experiment.
type cut struct {
	stage  stage
	victim victim
	host   host
	number int
}

func (c cut) name() string { return fmt.Sprintf("cut-%d", c.number) }

// run submits a job that leaves a line in a file of the host when it starts
// and one when it ends, kills the victim at the stage, and judges the end.
func (w *world) run(t *testing.T, c cut) {
	ctx := t.Context()
	if c.stage == pulling {
		if _, err := c.host.Exec(ctx, "docker rmi -f "+lab.Big+" >/dev/null"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.submit(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := w.reach(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := w.kill(ctx, c); err != nil {
		t.Fatal(err)
	}
	run, err := w.server.Finish(ctx, c.name(), 3*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	w.judge(t, c, run)
}

func (w *world) submit(ctx context.Context, c cut) error {
	image := lab.Busybox
	if c.stage == pulling {
		image = lab.Big
	}
	loop := "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo line $i; sleep 0.2; done"
	if c.stage == stopping {
		loop = "trap '' INT; for i in $(seq 1 100); do echo line $i; sleep 0.2; done"
	}
	_, err := w.server.Submit(ctx, c.name(), map[string]any{
		"image": image, "fleets": []string{c.host.fleet}, "volumes": []string{"/var/chaos:/chaos"}, "stop_duration": 12,
		"commands": []string{"echo start >>/chaos/$DSTACK_RUN_NAME", loop, "echo end >>/chaos/$DSTACK_RUN_NAME"},
		"retry":    map[string]any{"on_events": []string{"no-capacity"}, "duration": "10m"},
	})
	return err
}

// reach waits until the job is at the stage.
func (w *world) reach(ctx context.Context, c cut) error {
	status := func(want ...api.JobStatus) error {
		return lab.Wait(ctx, time.Minute, "stage "+string(c.stage), func(ctx context.Context) error {
			run, err := w.server.Run(ctx, c.name())
			if err != nil {
				return err
			}
			for _, s := range want {
				if run.LatestJobSubmission.Status == s {
					return nil
				}
			}
			return fmt.Errorf("job is %s: %w", run.LatestJobSubmission.Status, errNotYet)
		})
	}
	switch c.stage {
	case queued:
		return nil
	case pulling:
		return status(api.JobPulling, api.JobRunning)
	case starting:
		return lab.Wait(ctx, time.Minute, "container", func(ctx context.Context) error {
			names, err := c.host.Containers(ctx)
			if err == nil && len(names) == 0 {
				err = errNotYet
			}
			return err
		})
	case running, stopping:
		if err := w.firstLine(ctx, c); err != nil {
			return err
		}
	}
	if c.stage == stopping {
		return w.server.Call(ctx, "project/main/runs/stop", map[string]any{"runs_names": []string{c.name()}, "abort": false}, nil)
	}
	return nil
}

func (w *world) firstLine(ctx context.Context, c cut) error {
	return lab.Wait(ctx, time.Minute, "first line", func(ctx context.Context) error {
		run, err := w.server.Run(ctx, c.name())
		if err != nil {
			return err
		}
		log, err := w.server.Logs(ctx, run)
		if err == nil && !strings.Contains(string(log), "line 1") {
			err = errNotYet
		}
		return err
	})
}

func (w *world) kill(ctx context.Context, c cut) error {
	switch c.victim {
	case theServer:
		if err := w.server.Kill(); err != nil {
			return err
		}
		return w.server.Start(ctx)
	case theShim:
		return c.host.KillProcess(ctx, "dstack-shim serve")
	case theAgent:
		return lab.Wait(ctx, 20*time.Second, "agent to kill", func(ctx context.Context) error {
			return c.host.KillProcess(ctx, "dstack-agent run")
		})
	case dockerd:
		_, err := c.host.Exec(ctx, "pkill -KILL -x dockerd; systemctl reset-failed docker; systemctl start docker")
		return err
	case theHost:
		return c.host.Reboot(ctx)
	}
	return fmt.Errorf("unknown victim %s", c.victim)
}

// judge checks status, reason, message, how often the job ran, and that
// nothing is left on the host.
func (w *world) judge(t *testing.T, c cut, run api.Run) {
	ctx := t.Context()
	job := run.LatestJobSubmission
	reason, message := value(job.TerminationReason), value(job.TerminationReasonMessage)
	t.Logf("run %s, job %s, reason %s: %s", run.Status, job.Status, reason, message)
	starts, ends := w.marks(t, c)
	if starts > 1 {
		t.Errorf("the job ran %d times", starts)
	}
	survives := c.victim == theServer || c.victim == theShim || (c.victim == dockerd && c.host.liveRestore)
	switch {
	case c.stage == stopping:
		if run.Status != api.RunTerminated || run.TerminationReason == nil || *run.TerminationReason != string(api.ReasonStoppedByUser) {
			t.Errorf("a stopped run is %s, reason %s", run.Status, value(run.TerminationReason))
		}
	case survives:
		if run.Status != api.RunDone || starts != 1 || ends != 1 {
			t.Errorf("run is %s with %d starts and %d ends, want done, 1, 1", run.Status, starts, ends)
		}
	case c.stage == running && c.victim == theAgent:
		if run.Status != api.RunFailed || reason != string(api.ReasonExecutorError) {
			t.Errorf("run is %s, reason %s, want failed, executor_error", run.Status, reason)
		}
	case c.stage == running:
		if run.Status != api.RunFailed || reason != string(api.ReasonContainerError) || message == "" {
			t.Errorf("run is %s, reason %s (%s), want failed, container_exited_with_error and the cause", run.Status, reason, message)
		}
	case run.Status == api.RunDone:
		if starts != 1 || ends != 1 {
			t.Errorf("a run that is done has %d starts and %d ends", starts, ends)
		}
	case run.Status != api.RunFailed || reason == "" || message == "":
		t.Errorf("run is %s, reason %q, message %q", run.Status, reason, message)
	}
	err := lab.Wait(ctx, 30*time.Second, "clean and idle host", func(ctx context.Context) error {
		names, err := c.host.Containers(ctx)
		if err != nil || len(names) > 0 {
			return errors.Join(err, fmt.Errorf("containers %v: %w", names, errNotYet))
		}
		var fleet api.Fleet
		if err := w.server.Call(ctx, "project/main/fleets/get", map[string]any{"name": c.host.fleet}, &fleet); err != nil {
			return err
		}
		if i := fleet.Instances[0]; i.Status != api.InstanceIdle || i.Unreachable {
			return fmt.Errorf("instance is %s (unreachable %t): %w", i.Status, i.Unreachable, errNotYet)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// marks counts how often the job began and ended.
func (w *world) marks(t *testing.T, c cut) (starts, ends int) {
	t.Helper()
	text, err := c.host.Exec(t.Context(), "cat /var/chaos/"+c.name()+" 2>/dev/null; true")
	if err != nil {
		t.Error(err)
	}
	return strings.Count(text, "start"), strings.Count(text, "end")
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
