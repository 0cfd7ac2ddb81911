package legacy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"dstack/controller/logs"
	"dstack/controller/store"
	"dstack/durable"
)

// 0.22.5 keeps logs in the server's folder, as projects/PROJECT/logs/RUN/JOB/
// job.log and runner.log (spec: server-operations.md 2), where ours are, too.
const (
	// KeptLogs is what a project's folder of them is called from then on.
	KeptLogs = "logs-0.22.5"
	// openLogs is its name while not all of them have become ours.
	openLogs = KeptLogs + ".part"
	newLogs  = "logs"
)

// setLogsAside gives the logs of 0.22.5 a name at which ConvertLogs finds them;
// undo takes that back.
func setLogsAside(dir string) (undo func() error, err error) {
	var moved []string
	undo = func() error {
		var errs []error
		for _, home := range moved {
			errs = append(errs, os.Rename(filepath.Join(home, openLogs), filepath.Join(home, newLogs)))
		}
		return errors.Join(errs...)
	}
	homes, err := homesOfLogs(dir)
	if err != nil {
		return undo, err
	}
	for _, home := range homes {
		if err := os.Rename(filepath.Join(home, newLogs), filepath.Join(home, openLogs)); err != nil {
			return undo, errors.Join(store.Explain(home, fmt.Errorf("set logs aside: %w", err)), undo())
		}
		moved = append(moved, home)
		if err := durable.SyncDir(home); err != nil {
			return undo, errors.Join(fmt.Errorf("set logs aside: %w", err), undo())
		}
	}
	return undo, nil
}

// homesOfLogs lists the folders of projects with logs of 0.22.5. Where those of
// an earlier time were set aside there is no room for them.
func homesOfLogs(dir string) ([]string, error) {
	projects := filepath.Join(dir, "projects")
	names, err := folders(projects)
	if err != nil {
		return nil, err
	}
	var homes []string
	for _, name := range names {
		home := filepath.Join(projects, name)
		inside, err := folders(home)
		if err != nil {
			return nil, err
		}
		found := map[string]bool{}
		for _, name := range inside {
			found[name] = true
		}
		for _, kept := range []string{KeptLogs, openLogs} {
			if found[newLogs] && found[kept] {
				return nil, &store.Fault{Kind: ErrKept, Path: filepath.Join(home, kept), Remedy: remedyKept}
			}
		}
		if found[newLogs] {
			homes = append(homes, home)
		}
	}
	return homes, nil
}

// folders lists what can be entered in a folder, which need not be there.
func folders(path string) ([]string, error) {
	list, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, store.Explain(path, err)
	}
	var names []string
	for _, e := range list {
		if e.IsDir() || e.Type()&fs.ModeSymlink != 0 {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// LogsReport is what ConvertLogs did.
type LogsReport struct {
	// Logs are there now.
	Logs int
	// BadLines could not be read: those that a server was killed at.
	BadLines int
	// BadNames are files below names that are none of a run or job.
	BadNames int
}

// converter makes our logs.
type converter struct {
	dir    string
	store  *logs.Store
	report LogsReport
}

// ConvertLogs makes ours of the logs that Import set aside in a server's
// folder, and keeps those as [KeptLogs]. Whenever the process ends, the next
// call goes on; nobody may write logs before it is done. Errors are sentences
// for the user.
func ConvertLogs(ctx context.Context, dir string) (report LogsReport, err error) {
	c := &converter{dir: dir, store: logs.New(logs.Options{Dir: dir})}
	defer func() { err = errors.Join(err, c.store.Close()) }()
	projects, err := folders(filepath.Join(dir, "projects"))
	if err != nil {
		return c.report, err
	}
	for _, project := range projects {
		if err := c.project(ctx, project); err != nil {
			return c.report, err
		}
	}
	return c.report, nil
}

func (c *converter) project(ctx context.Context, project string) error {
	home := filepath.Join(c.dir, "projects", project)
	from := filepath.Join(home, openLogs)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) { //nolint:gosec // it is a folder of the one that the server has
		return nil
	}
	runs, err := folders(from)
	if err != nil {
		return err
	}
	for _, run := range runs {
		jobs, err := folders(filepath.Join(from, run))
		if err != nil {
			return err
		}
		for _, job := range jobs {
			key := logs.Key{Project: project, Run: run, JobID: job}
			if err := c.log(ctx, filepath.Join(from, run, job, "job.log"), key); err != nil {
				return err
			}
			if err := c.log(ctx, filepath.Join(from, run, job, "runner.log"), key.Diagnostics()); err != nil {
				return err
			}
		}
	}
	if err := os.Rename(from, filepath.Join(home, KeptLogs)); err != nil { //nolint:gosec // likewise
		return store.Explain(home, fmt.Errorf("keep the old logs: %w", err))
	}
	return durable.SyncDir(home) //nolint:wrapcheck // says what it did
}

func (c *converter) log(ctx context.Context, path string, key logs.Key) error {
	f, err := os.Open(path) //nolint:gosec // likewise
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(c.store.Put(ctx, key, c.events(f)), f.Close())
	}
	if errors.Is(err, logs.ErrBadKey) {
		c.report.BadNames++
		return nil
	}
	if err != nil {
		return fmt.Errorf("take over the log %s, where the next start goes on: %w", path, err)
	}
	c.report.Logs++
	return nil
}

// events reads a log of 0.22.5.
func (c *converter) events(file io.Reader) iter.Seq2[logs.Event, error] {
	return func(yield func(logs.Event, error) bool) {
		lines := bufio.NewReaderSize(file, 64<<10)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				yield(logs.Event{}, err)
				return
			}
			if len(line) > 0 {
				e, ok := parseLine(line)
				if !ok {
					c.report.BadLines++
				} else if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
}

// parseLine reads one line of a log of 0.22.5, a JSON object.
func parseLine(line []byte) (logs.Event, bool) {
	var parsed struct {
		At      *time.Time `json:"timestamp"`
		Message *string    `json:"message"`
	}
	if err := json.Unmarshal(line, &parsed); err != nil || parsed.At == nil || parsed.Message == nil {
		return logs.Event{}, false
	}
	return logs.Event{At: *parsed.At, Data: []byte(*parsed.Message)}, true
}
