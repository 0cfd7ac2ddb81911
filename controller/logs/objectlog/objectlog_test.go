package objectlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/logs"
	"dstack/controller/logs/ship"
	"dstack/controller/objects"
)

var key = logs.Key{Project: "main", Run: "train", JobID: "0a7945ef-f062-4cb4-b2dc-9945fe4c3120"}

// memory is a bucket.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	err     error
}

func (m *memory) Put(_ context.Context, key string, content io.ReadSeeker) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := io.ReadAll(content)
	if m.err == nil && err == nil {
		m.objects[key] = data
	}
	return errors.Join(m.err, err)
}

func (m *memory) Get(_ context.Context, key string) (io.ReadCloser, objects.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[key]
	if !ok {
		return nil, objects.Object{}, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), objects.Object{}, m.err
}

func (m *memory) List(_ context.Context, prefix string, each func(objects.Object)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.objects { // in any order
		if strings.HasPrefix(k, prefix) {
			each(objects.Object{Key: k})
		}
	}
	return m.err
}

func storage(m *memory) *Storage {
	m.objects = map[string][]byte{}
	target := objects.Target{Scheme: "s3", Bucket: "b", Path: "p/q"}
	return New(target, func(context.Context) (Bucket, error) { return m, m.err })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// send does what a shipper does with the log, a step of at most limit events.
func send(t *testing.T, disk *logs.Store, to *Storage, p *logs.Position, limit int) {
	t.Helper()
	b, err := disk.Batch(key, p.Piece.Event, limit)
	must(t, err)
	n, err := to.Put(t.Context(), ship.Batch{Key: key, Batch: b})
	must(t, err)
	if n != len(b.Events) {
		t.Fatalf("%d of %d events were taken", n, len(b.Events))
	}
	p.Next = b.End
	if b.More {
		p.Piece = b.End
	}
}

func all(t *testing.T, from logs.Remote, opts logs.PollOptions) []logs.Event {
	t.Helper()
	var events []logs.Event
	for pages := 0; ; pages++ {
		page, err := from.Poll(t.Context(), key, opts)
		must(t, err)
		if len(page.Events) > opts.Limit {
			t.Fatalf("%d events on a page of %d", len(page.Events), opts.Limit)
		}
		events = append(events, page.Events...)
		if opts.Token = page.Next; opts.Token == "" {
			return events
		}
		if len(page.Events) == 0 || pages > 10_000 {
			t.Fatal("pages without an end")
		}
	}
}

func same(a, b logs.Event) bool {
	return a.At.Equal(b.At) && a.Offset == b.Offset && bytes.Equal(a.Data, b.Data)
}

// TestReadsAsTheDisk compares random reads with those of the disk.
func TestReadsAsTheDisk(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(ms)).UTC() }
	disk := logs.New(logs.Options{Dir: t.TempDir()})
	defer disk.Close()
	bucket := &memory{}
	to := storage(bucket)
	var p logs.Position
	size, now := int64(0), 0
	for range 400 {
		data := make([]byte, 1+rand.IntN(200))
		for i := range data {
			data[i] = byte(rand.IntN(256)) // mostly no UTF-8
		}
		if rand.IntN(2) == 0 {
			data = []byte("täxt\u2028\x00\r\n"[:1+rand.IntN(6)])
		}
		var err error
		size, err = disk.Append(t.Context(), key, size, at(now), data)
		must(t, err)
		now += rand.IntN(30)
		if rand.IntN(3) == 0 {
			send(t, disk, to, &p, 1+rand.IntN(60))
		}
	}
	// The last bytes of an incomplete character need a moment.
	for p.Next.Offset < size {
		send(t, disk, to, &p, 50)
	}
	if n := len(bucket.objects); n < 5 || n > 200 {
		t.Errorf("%d objects", n)
	}
	for range 300 {
		opts := logs.PollOptions{Descending: rand.IntN(2) == 0, Limit: 1 + rand.IntN(100)}
		if rand.IntN(2) == 0 {
			start := at(rand.IntN(now))
			opts.Start = &start
		}
		if rand.IntN(2) == 0 {
			end := at(rand.IntN(now))
			opts.End = &end
		}
		if rand.IntN(2) == 0 {
			opts.Token = fmt.Sprint(rand.IntN(450))
		}
		if want, got := all(t, disk, opts), all(t, to, opts); !slices.EqualFunc(want, got, same) {
			t.Fatalf("%+v: %d events, want %d", opts, len(got), len(want))
		}
	}
}

// TestOverlap: a log that was sent again from another place is read once.
func TestOverlap(t *testing.T) {
	t.Parallel()
	to := storage(&memory{})
	events := make([]logs.Event, 10)
	for i := range events {
		events[i] = logs.Event{At: time.Unix(int64(i), 0).UTC(), Offset: int64(i), Data: []byte{byte('0' + i)}}
	}
	for _, part := range [][2]int64{{0, 8}, {5, 7}, {6, 10}} {
		_, err := to.Put(t.Context(), ship.Batch{Key: key, Batch: logs.Batch{First: logs.Mark{Event: part[0], Offset: part[0]}, Events: events[part[0]:part[1]]}})
		must(t, err)
	}
	if diff := cmp.Diff(events, all(t, to, logs.PollOptions{Limit: 3})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNothingThere(t *testing.T) {
	t.Parallel()
	bucket := &memory{}
	to := storage(bucket)
	bucket.objects["p/q/projects/main/logs/train/"+key.JobID+"/readme.txt"] = []byte("of somebody else")
	if got := all(t, to, logs.PollOptions{Limit: 10}); got != nil {
		t.Errorf("%v", got)
	}
	if got := all(t, to, logs.PollOptions{Limit: 10, Descending: true}); got != nil {
		t.Errorf("%v", got)
	}
	if _, err := to.Poll(t.Context(), key, logs.PollOptions{Limit: 1, Token: "x"}); !errors.Is(err, logs.ErrBadToken) {
		t.Errorf("%v", err)
	}
	bucket.objects["p/q/projects/main/logs/train/"+key.JobID+"/"+name(logs.Mark{})] = []byte("damaged")
	if _, err := to.Poll(t.Context(), key, logs.PollOptions{Limit: 1}); err == nil {
		t.Error("what is damaged was read")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	bucket := &memory{}
	to := storage(bucket)
	must(t, to.Check(t.Context()))
	for kind, unreachable := range map[objects.Kind]bool{objects.KindUnreachable: true, objects.KindNoBucket: false, objects.KindForbidden: false} {
		bucket.err = &objects.Fault{Kind: kind}
		err := to.Check(t.Context())
		if _, got := errors.AsType[*ship.UnreachableError](err); err == nil || got != unreachable {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("000000000042-000000131072.jsonl.gz")
	f.Add("1-2.jsonl.gz")
	f.Fuzz(func(t *testing.T, text string) {
		if m, ok := parse(text); ok {
			if again, ok := parse(name(m)); !ok || again != m {
				t.Errorf("%q: %+v, %+v", text, m, again)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	good, err := encode([]logs.Event{{At: time.Unix(1, 0), Data: []byte("a\n")}, {At: time.Unix(2, 0), Data: []byte{0xff}}})
	must(f, err)
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := decode(bytes.NewReader(data), 0)
		if err != nil {
			return
		}
		content, err := encode(events)
		if err != nil {
			t.Skip("a time that JSON does not know")
		}
		again, err := decode(bytes.NewReader(content), 0)
		if err != nil || !slices.EqualFunc(events, again, same) {
			t.Errorf("%v, %v, %v", err, events, again)
		}
		for _, e := range events {
			if e.Data == nil {
				t.Errorf("no data: %v", utf8.Valid(e.Data))
			}
		}
	})
}
