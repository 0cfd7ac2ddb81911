// Command apicompare sends the same calls to the real dstack 0.22.5 server and
// to ours, both fresh, and compares status and JSON of the answers. See
// docs/development/compat.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	real, ours, allowed, only, transcript, record, replay string
	all                                                   bool
	files                                                 []string
}

var errDiffers = errors.New("the servers differ")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.real, "real", "", "the real dstack program")
	flag.StringVar(&o.ours, "ours", "bin/dstack", "our dstack program")
	flag.StringVar(&o.allowed, "allowed", "test/apicompare/allowed.yml", "differences that we want")
	flag.StringVar(&o.only, "only", "", "report only calls whose title or path contains this")
	flag.StringVar(&o.transcript, "transcript", "", "write all answers to this file")
	flag.StringVar(&o.record, "record", "", "write the real server's answers to this file")
	flag.StringVar(&o.replay, "replay", "", "take the real server's answers from this file (no proof)")
	flag.BoolVar(&o.all, "all", false, "the files are the whole proof: each route must be called, each allowance used")
	flag.Parse()
	o.files = flag.Args()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "api-compare:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	allowed, err := loadAllowed(o.allowed)
	if err != nil {
		return err
	}
	r := &report{out: out, only: o.only, allowed: allowed, called: map[string]bool{}, transcript: io.Discard}
	if o.transcript != "" {
		file, err := os.Create(o.transcript)
		if err != nil {
			return fmt.Errorf("make transcript: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		r.transcript = file
	}
	if o.replay != "" {
		if r.replay, err = openRecording(o.replay); err != nil {
			return err
		}
		o.real, o.all = "", false
	}
	if o.record != "" {
		file, err := os.Create(o.record)
		if err != nil {
			return fmt.Errorf("make recording: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		r.record = &recording{file: file}
	}
	for _, file := range o.files {
		if err := r.file(ctx, o, file); err != nil {
			return err
		}
	}
	return r.end(o.all)
}

// report counts and prints.
type report struct {
	out, transcript          io.Writer
	only                     string
	allowed                  []*allowance
	calls, wanted, differing int
	// called are the routes that were called; routes those of the real server.
	called map[string]bool
	routes []string
	// record or replay is the recording that is made or used.
	record, replay *recording
}

// file runs one file of calls on fresh servers.
func (r *report) file(ctx context.Context, o options, path string) (err error) {
	s, err := load(path)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "apicompare")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	began := time.Now()
	real, ours, err := startBoth(ctx, o, dir, s)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, real.stop(), ours.stop())
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	started := time.Now()
	if r.replay == nil {
		if err := r.learnRoutes(ctx, real); err != nil {
			return err
		}
	}
	if o.all && len(r.called) == 0 {
		if err := r.documents(ctx, real, ours); err != nil {
			return err
		}
	}
	c := newComparer(time.Now())
	for _, call := range s.Calls {
		if err := r.one(ctx, c, call, real, ours); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.out, "%s: %d calls, %.0f s for both servers to start, %.0f s for the calls\n",
		filepath.Base(path), len(s.Calls), started.Sub(began).Seconds(), time.Since(started).Seconds())
	return nil
}

func startBoth(ctx context.Context, o options, dir string, s sequence) (real, ours *server, err error) {
	var wait sync.WaitGroup
	var errReal, errOurs error
	wait.Go(func() { real, errReal = start(ctx, "real", o.real, filepath.Join(dir, "real"), s) })
	wait.Go(func() { ours, errOurs = start(ctx, "ours", o.ours, filepath.Join(dir, "ours"), s) })
	wait.Wait()
	if errReal != nil && errOurs == nil {
		errReal = errors.Join(errReal, ours.stop())
	}
	if errOurs != nil && errReal == nil {
		errOurs = errors.Join(errOurs, real.stop())
	}
	return real, ours, errors.Join(errReal, errOurs)
}

// one makes one call on both and reports.
func (r *report) one(ctx context.Context, c *comparer, call call, real, ours *server) error {
	r.calls++
	r.note(call)
	var wait sync.WaitGroup
	var a, b answer
	var missedA, missedB []string
	var errA, errB error
	wait.Go(func() { a, missedA, errA = r.ask(ctx, real, call) })
	wait.Go(func() { b, missedB, errB = ours.do(ctx, call) })
	wait.Wait()
	if errors.Is(errA, errNotRecorded) {
		fmt.Fprintf(r.out, "NOT RECORDED %s\n", call.title())
		return errB
	}
	if err := errors.Join(errA, errB); err != nil {
		return fmt.Errorf("%s: %w", call.title(), err)
	}
	for name := range call.Save {
		x, _ := real.vars[name].(string)
		y, _ := ours.vars[name].(string)
		if x != "" && y != "" && x != y {
			c.bind(x, y)
		}
	}
	fmt.Fprintf(r.transcript, "\n%s\n%s\n  real %d %s\n  ours %d %s\n", call.title(), call.Call, a.status, whole(a.body), b.status, whole(b.body))
	for _, allowed := range r.allowed {
		a.body, b.body = allowed.drop(call, a.body, b.body)
	}
	differences := c.answers(call, a, b)
	if !slices.Equal(missedA, missedB) {
		differences = append(differences, difference{"missed", strings.Join(missedA, ", "), strings.Join(missedB, ", ")})
	}
	r.tell(call, differences)
	return nil
}

// tell prints the differences that nobody wants.
func (r *report) tell(c call, all []difference) {
	open := slices.DeleteFunc(slices.Clone(all), func(d difference) bool {
		return slices.ContainsFunc(r.allowed, func(a *allowance) bool { return a.covers(c, d) })
	})
	if len(open) == 0 {
		if len(all) > 0 {
			r.wanted++
		}
		return
	}
	r.differing++
	if !strings.Contains(c.title()+" "+c.Call, r.only) {
		return
	}
	fmt.Fprintf(r.out, "DIFFERS %s\n        %s\n", c.title(), c.Call)
	for _, d := range open {
		fmt.Fprintf(r.out, "    %s\n        real  %s\n        ours  %s\n", d.path, d.real, d.ours)
	}
}

// end prints the sum and says whether all is well.
func (r *report) end(all bool) error {
	fmt.Fprintf(r.out, "%d calls: %d equal, %d with differences that we want, %d differ\n",
		r.calls, r.calls-r.wanted-r.differing, r.wanted, r.differing)
	var err error
	if r.differing > 0 {
		err = fmt.Errorf("%d of %d calls: %w", r.differing, r.calls, errDiffers)
	}
	if !all {
		return err
	}
	for _, route := range r.routes {
		if !r.called[route] {
			err = errors.Join(err, fmt.Errorf("no call of %s", route))
		}
	}
	for _, a := range r.allowed {
		if a.used == 0 && !a.Chance {
			err = errors.Join(err, fmt.Errorf("allowance that nothing needs: %s, %s", a.Call, *a.Path))
		}
	}
	return err
}

// learnRoutes asks the real server what it has.
func (r *report) learnRoutes(ctx context.Context, real *server) error {
	got, err := real.send(ctx, call{Call: "GET /openapi.json", As: names{"none"}})
	if err != nil {
		return err
	}
	paths, _ := lookUp(got.body, "paths")
	tree, ok := paths.(map[string]any)
	if !ok {
		return errors.New("the real server's /openapi.json has no paths")
	}
	r.routes = slices.Sorted(maps.Keys(tree))
	return nil
}

// note remembers which route a call is for.
func (r *report) note(c call) {
	_, path, _ := strings.Cut(c.Call, " ")
	path, _, _ = strings.Cut(path, "?")
	for _, route := range r.routes {
		if routeMatches(route, path) {
			r.called[route] = true
		}
	}
}

// routeMatches says whether a path is of a route such as /api/{name}/get.
func routeMatches(route, path string) bool {
	want, got := strings.Split(route, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return strings.HasSuffix(route, "{path}") && len(got) > len(want) && routeMatches(route, strings.Join(got[:len(want)], "/"))
	}
	for i := range want {
		if !strings.HasPrefix(want[i], "{") && want[i] != got[i] {
			return false
		}
	}
	return true
}
