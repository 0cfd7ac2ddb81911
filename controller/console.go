package controller

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// logger is the name of the server's logger in the formats that show one.
const logger = "dstack.server"

// newLogger makes the server's log on out (spec: server-operations.md 1).
func newLogger(out io.Writer, format string, level zerolog.Level, now func() time.Time) zerolog.Logger {
	var w io.Writer
	if format == FormatJSON {
		w = jsonLines{out}
	} else {
		w = &console{out: out, rich: format == FormatRich}
	}
	return zerolog.New(w).Level(level).Hook(stamp(now))
}

// stamp adds what zerolog does not add by itself under these names.
func stamp(now func() time.Time) zerolog.HookFunc {
	return func(e *zerolog.Event, _ zerolog.Level, _ string) {
		e.Str("timestamp", now().UTC().Format("2006-01-02T15:04:05.000Z")).Str("logger", logger)
	}
}

// jsonLines writes events as they are, with the names of levels of 0.22.5.
type jsonLines struct{ io.Writer }

// WriteLevel writes one event, in one piece.
func (j jsonLines) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	named := bytes.Replace(line, fmt.Appendf(nil, `"level":"%s"`, level), fmt.Appendf(nil, `"level":"%s"`, levelName(level.String())), 1)
	if _, err := j.Write(named); err != nil {
		return 0, fmt.Errorf("write log: %w", err)
	}
	return len(line), nil
}

// console turns JSON lines into lines for people.
type console struct {
	rich bool

	mu   sync.Mutex
	out  io.Writer
	last string // the time that the last line showed
}

// Write prints one event. A line is never wrapped: scripts search for it.
func (c *console) Write(line []byte) (int, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	var event map[string]any
	if err := dec.Decode(&event); err != nil {
		return 0, fmt.Errorf("read log event: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := io.WriteString(c.out, c.format(event)); err != nil {
		return 0, fmt.Errorf("write log: %w", err)
	}
	return len(line), nil
}

func (c *console) format(event map[string]any) string {
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(event["timestamp"]))
	if err != nil {
		at = time.Time{}
	}
	level := levelName(fmt.Sprint(event["level"]))
	message := fmt.Sprint(event["message"]) + fields(event)
	if !c.rich {
		return fmt.Sprintf("%s %s %s %s\n", level, at.Local().Format("2006-01-02T15:04:05.000"), logger, message)
	}
	clock := at.Local().Format("[15:04:05]")
	if clock == c.last {
		clock = strings.Repeat(" ", len(clock))
	} else {
		c.last = clock
	}
	return fmt.Sprintf("%s %-8s %s\n", clock, level, message)
}

// fields renders the rest of the event as name=value, in a stable order.
func fields(event map[string]any) string {
	var names []string
	for name := range event {
		switch name {
		case "timestamp", "logger", "level", "message":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		value := fmt.Sprint(event[name])
		if strings.ContainsAny(value, " \t\n\"") {
			value = fmt.Sprintf("%q", value)
		}
		fmt.Fprintf(&b, " %s=%s", name, value)
	}
	return b.String()
}

// levelName is the level as Python's logging calls it.
func levelName(level string) string {
	switch level {
	case "warn":
		return "WARNING"
	case "fatal", "panic":
		return "CRITICAL"
	}
	return strings.ToUpper(level)
}
