// Package objectlog keeps logs in an object storage. A log is a folder of
// objects with up to a MiB each, compressed by gzip, one JSON object a line:
//
//	PATH/projects/PROJECT/logs/RUN/JOB/000000000042-000000131072.jsonl.gz
//
// The numbers are those of the first event, and of its first byte in the log.
// The last object of a log is written anew with more in it until it is full, so
// sending something twice changes nothing.
package objectlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"dstack/controller/logs"
	"dstack/controller/logs/ship"
	"dstack/controller/objects"
)

// delay is how long a line waits at most for its upload: each upload costs.
const delay = 10 * time.Second

// Bucket is what is needed of [objects.Bucket].
type Bucket interface {
	Put(ctx context.Context, key string, content io.ReadSeeker) error
	Get(ctx context.Context, key string) (io.ReadCloser, objects.Object, error)
	List(ctx context.Context, prefix string, each func(objects.Object)) error
}

// Storage is a path in a bucket.
type Storage struct {
	target objects.Target
	open   func(ctx context.Context) (Bucket, error)

	mu     sync.Mutex
	opened Bucket
}

// New returns the storage of logs at a target. open is called when it is
// needed, again after it failed: to open a bucket may need its storage.
func New(t objects.Target, open func(ctx context.Context) (Bucket, error)) *Storage {
	return &Storage{target: t, open: open}
}

func (s *Storage) bucket(ctx context.Context) (Bucket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != nil {
		return s.opened, nil
	}
	b, err := s.open(ctx)
	if err == nil {
		s.opened = b
	}
	return b, err
}

// Check writes, reads and lists a note of a few bytes at the path.
func (s *Storage) Check(ctx context.Context) error {
	err := s.check(ctx)
	fault, ok := errors.AsType[*objects.Fault](err)
	if ok && fault.Kind == objects.KindUnreachable {
		return &ship.UnreachableError{Err: err}
	}
	return err
}

func (s *Storage) check(ctx context.Context) error {
	b, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	key := s.target.Key("dstack-logs.txt")
	if err := b.Put(ctx, key, strings.NewReader("Logs of dstack jobs are below projects/.\n")); err != nil {
		return err //nolint:wrapcheck // a sentence with the URL
	}
	content, _, err := b.Get(ctx, key)
	if err != nil {
		return err //nolint:wrapcheck // a sentence with the URL
	}
	return errors.Join(content.Close(), b.List(ctx, key, func(objects.Object) {}))
}

// Name is the URL.
func (s *Storage) Name() string { return s.target.String() }

// Traits say that objects grow.
func (*Storage) Traits() ship.Traits { return ship.Traits{Delay: delay, Grows: true} }

// folder is where the objects of a log are; it ends with a slash.
func (s *Storage) folder(k logs.Key) string {
	return s.target.Key(path.Join("projects", k.Project, "logs", k.Run, k.JobID)) + "/"
}

// line is one event. Text that is no UTF-8 is kept as bytes.
type line struct {
	Timestamp time.Time `json:"timestamp"`
	Message   string    `json:"message,omitempty"`
	Data      []byte    `json:"data,omitempty"`
}

// Put writes the object that begins with the first event.
func (s *Storage) Put(ctx context.Context, b ship.Batch) (int, error) {
	content, err := encode(b.Events)
	if err != nil {
		return 0, err
	}
	bucket, err := s.bucket(ctx)
	if err != nil {
		return 0, err
	}
	if err := bucket.Put(ctx, s.folder(b.Key)+name(b.First), bytes.NewReader(content)); err != nil {
		return 0, err //nolint:wrapcheck // a sentence with the URL
	}
	return len(b.Events), nil
}

func encode(events []logs.Event) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	enc := json.NewEncoder(zip)
	enc.SetEscapeHTML(false)
	for _, e := range events {
		l := line{Timestamp: e.At}
		if utf8.Valid(e.Data) {
			l.Message = string(e.Data)
		} else {
			l.Data = e.Data
		}
		if err := enc.Encode(l); err != nil {
			return nil, fmt.Errorf("encode log: %w", err)
		}
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("compress log: %w", err)
	}
	return out.Bytes(), nil
}

// maxObject bounds what is read of one object, decompressed.
const maxObject = 64 << 20

// decode reads an object whose first event is at an offset of the log.
func decode(content io.Reader, offset int64) ([]logs.Event, error) {
	zip, err := gzip.NewReader(content)
	if err != nil {
		return nil, fmt.Errorf("decompress log: %w", err)
	}
	var events []logs.Event
	dec := json.NewDecoder(io.LimitReader(zip, maxObject))
	for {
		var l line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decode log: %w", err)
		}
		e := logs.Event{At: l.Timestamp.UTC(), Offset: offset, Data: l.Data}
		if l.Data == nil {
			e.Data = []byte(l.Message)
		}
		offset += int64(len(e.Data))
		events = append(events, e)
	}
}

func name(m logs.Mark) string { return fmt.Sprintf("%012d-%012d.jsonl.gz", m.Event, m.Offset) }

var validName = regexp.MustCompile(`^(\d{12,18})-(\d{12,18})\.jsonl\.gz$`)

// parse reads a name; false if it is none of ours.
func parse(name string) (logs.Mark, bool) {
	found := validName.FindStringSubmatch(name)
	if found == nil {
		return logs.Mark{}, false
	}
	event, err1 := strconv.ParseInt(found[1], 10, 64)
	offset, err2 := strconv.ParseInt(found[2], 10, 64)
	return logs.Mark{Event: event, Offset: offset}, err1 == nil && err2 == nil
}
