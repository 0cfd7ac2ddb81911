package hosts

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"dstack/protocol/hostapi"
)

func testFeed(r *recorder) *feed {
	return &feed{
		instance: "i", observer: r, logs: r, log: zerolog.Nop(), stall: logStall,
		acks: newAcks(hostapi.Ack{}), stored: map[string]int64{}, asked: map[string]int64{},
		moved: func(uint64) {}, up: func(context.Context, hostapi.Hello) error { return nil },
	}
}

// runFeed feeds events in, and returns a function that ends it and gives its error.
func runFeed(t *testing.T, f *feed, events ...hostapi.Event) func() error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ch := make(chan hostapi.Event, len(events))
	for _, e := range events {
		ch <- e
	}
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { err = f.run(ctx, ch) })
	return func() error {
		cancel()
		wg.Wait()
		return err
	}
}

func terminated(seq uint64, id string, size int64) hostapi.Event {
	return hostapi.Event{Seq: seq, Task: &hostapi.Task{ID: id, State: hostapi.TaskTerminated, PlainSize: &size, Message: "exit 1"}}
}

var hello = hostapi.Event{Hello: &hostapi.Hello{}}

func TestALogThatNeverComesDoesNotHoldARunForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		f := testFeed(r)
		end := runFeed(t, f, hello,
			hostapi.Event{Log: &hostapi.LogChunk{TaskID: "a", Data: []byte("half")}},
			terminated(1, "a", 8), hostapi.Event{Seq: 2, Task: &hostapi.Task{ID: "b", State: hostapi.TaskRunning}})
		time.Sleep(logTries * logStall)
		synctest.Wait()
		r.mu.Lock()
		if len(r.states) > 0 {
			t.Errorf("states = %q before the time is over", r.states)
		}
		r.mu.Unlock()
		f.acks.mu.Lock()
		if from := f.acks.next.Resend["a"]; from != 4 {
			t.Errorf("the rest was asked for from %d", from)
		}
		f.acks.mu.Unlock()
		time.Sleep(logStall)
		synctest.Wait()
		_ = end()
		if len(r.states) != 2 {
			t.Fatalf("states = %q", r.states)
		}
		want := "exit 1 (the log is incomplete: 4 of 8 bytes arrived from the host)"
		if got := r.final["a"].Message; got != want {
			t.Errorf("message = %q, want %q", got, want)
		}
		if f.acks.next.Seq != 2 {
			t.Errorf("acknowledged = %d", f.acks.next.Seq)
		}
	})
}

// What one job prints must not put off the end of another whose log is short.
func TestATalkingNeighbourDoesNotHoldARunForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		f := testFeed(r)
		ctx, cancel := context.WithCancel(t.Context())
		ch := make(chan hostapi.Event)
		var wg sync.WaitGroup
		wg.Go(func() { _ = f.run(ctx, ch) })
		ch <- hello
		ch <- terminated(1, "a", 8)
		for offset := range int64((logTries + 2) * logStall / time.Second) {
			ch <- hostapi.Event{Log: &hostapi.LogChunk{TaskID: "b", Offset: offset, Data: []byte("x")}}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if len(r.states) != 1 {
			t.Errorf("states = %q", r.states)
		}
	})
}

func TestASilentShimIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := runFeed(t, testFeed(newRecorder()))
		time.Sleep(helloTimeout)
		synctest.Wait()
		if err := end(); err == nil || !strings.Contains(err.Error(), "did not start") {
			t.Errorf("error = %v", err)
		}
	})
}

func TestFeedRefusesNonsense(t *testing.T) {
	running := func(seq uint64) hostapi.Event {
		return hostapi.Event{Seq: seq, Task: &hostapi.Task{ID: "a", State: hostapi.TaskRunning}}
	}
	for name, c := range map[string]struct {
		events []hostapi.Event
		want   string
	}{
		"no hello": {[]hostapi.Event{running(1)}, "no hello"},
		"gap":      {[]hostapi.Event{hello, running(5), running(7)}, "event 7 came after event 5"},
	} {
		t.Run(name, func(t *testing.T) {
			ch := make(chan hostapi.Event, len(c.events))
			for _, e := range c.events {
				ch <- e
			}
			if err := testFeed(newRecorder()).run(t.Context(), ch); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want %q", err, c.want)
			}
		})
	}
}

func TestAGapIsAskedForOnce(t *testing.T) {
	r := newRecorder()
	f := testFeed(r)
	for _, offset := range []int64{10, 20, 30} {
		if _, err := f.chunk(t.Context(), &hostapi.LogChunk{TaskID: "a", Offset: offset, Data: []byte("0123456789")}); err != nil {
			t.Fatal(err)
		}
	}
	if from, ok := f.acks.next.Resend["a"]; !ok || from != 0 || len(r.logs) > 0 {
		t.Errorf("resend = %v, logs = %q", f.acks.next.Resend, r.logs)
	}
	f.acks.next = hostapi.Ack{}
	if _, err := f.chunk(t.Context(), &hostapi.LogChunk{TaskID: "a", Offset: 40, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if f.acks.next.Resend != nil {
		t.Error("the same gap was asked for twice")
	}
}
