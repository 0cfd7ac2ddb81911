// Package catalog reads the prices of machine types that whoever runs the
// server keeps in a file or behind a URL, for servers that may not or cannot ask
// the clouds themselves.
//
// A catalogue is CSV with a line of titles. It needs the columns instance_name,
// location (the region) and price (USD an hour, without disk
// and address); spot (true or false) and provider (the type of the backend) may
// be there, any other column is ignored. The published catalogues that 0.22.5
// reads have this form (shared spec: backends.md 4).
package catalog

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Key is what has a price.
type Key struct {
	Type, Region string
	Spot         bool
}

// List is the catalogue of one backend.
type List struct {
	// Prices are in USD an hour.
	Prices map[Key]float64
	// At is the date of the catalogue: that of its file, or what the HTTP server
	// says; else when it was read.
	At time.Time
	// Source is where it is from.
	Source string
}

// placeholder stands in a source for the type of the backend.
const placeholder = "{backend}"

// How long a catalogue is used, how soon one that failed is read again, how
// long it may take to arrive, and how large it may be.
const (
	fresh      = 15 * time.Minute
	retryAfter = time.Minute
	limit      = 10 * time.Second
	maxBytes   = 64 << 20
)

// Catalog is a source of lists, read when they are needed.
type Catalog struct {
	source string
	client *http.Client
	now    func() time.Time

	mu    sync.Mutex
	lists map[string]*entry // by backend
}

type entry struct {
	list  List
	err   error
	until time.Time
}

// New makes a catalogue of a file or URL, in which "{backend}" stands for the
// type of the backend. Without a source its lists are empty.
func New(source string, client *http.Client, now func() time.Time) *Catalog {
	return &Catalog{source: source, client: client, now: now, lists: map[string]*entry{}}
}

// Prices is the list of a backend. If it cannot be read any more, the error
// comes with what was read last.
func (c *Catalog) Prices(ctx context.Context, backend string) (List, error) {
	if c == nil || c.source == "" {
		return List{}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.lists[backend]
	if e != nil && c.now().Before(e.until) {
		return e.list, e.err
	}
	got, err := c.read(ctx, backend)
	switch {
	case ctx.Err() != nil: // who asked has gone, and nothing is known of the catalogue
		if e == nil {
			return List{}, err
		}
		return e.list, err
	case err == nil:
		e = &entry{list: got, until: c.now().Add(fresh)}
	case e == nil:
		e = &entry{err: err, until: c.now().Add(retryAfter)}
	default:
		e.err, e.until = err, c.now().Add(retryAfter)
	}
	c.lists[backend] = e
	return e.list, e.err
}

func (c *Catalog) read(ctx context.Context, backend string) (List, error) {
	source := strings.ReplaceAll(c.source, placeholder, backend)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	open, name := c.file, source
	if strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://") {
		open, name = c.fetch, public(source)
	}
	body, at, err := open(ctx, source)
	if err != nil {
		if ours, ok := errors.AsType[*url.Error](err); ok {
			err = ours.Err // it names the URL with what is secret
		}
		return List{}, fmt.Errorf("the catalogue %s cannot be read: %w", name, err)
	}
	defer func() { _ = body.Close() }() // it was only read
	prices, err := Parse(io.LimitReader(body, maxBytes), backend)
	if err != nil {
		return List{}, fmt.Errorf("the catalogue %s cannot be read: %w", name, err)
	}
	return List{Prices: prices, At: at, Source: name}, nil
}

// public is a URL without what may be secret: user, password and query.
func public(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return "URL"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func (c *Catalog) file(_ context.Context, path string) (io.ReadCloser, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err //nolint:wrapcheck // wrapped by read
	}
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, errors.Join(err, f.Close())
	}
	return f, info.ModTime(), nil
}

func (c *Catalog) fetch(ctx context.Context, url string) (io.ReadCloser, time.Time, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, time.Time{}, err //nolint:wrapcheck // wrapped by read
	}
	res, err := c.client.Do(req)
	if err != nil {
		return nil, time.Time{}, err //nolint:wrapcheck // wrapped by read
	}
	if res.StatusCode != http.StatusOK {
		return nil, time.Time{}, errors.Join(fmt.Errorf("the server answered %s", res.Status), res.Body.Close())
	}
	at, err := http.ParseTime(res.Header.Get("Last-Modified"))
	if err != nil {
		at = c.now()
	}
	return res.Body, at, nil
}

// Parse reads the prices of a backend. Lines of other backends and those
// without a price are left out; a line that is no line of a catalogue is an
// error with its number.
func Parse(r io.Reader, backend string) (map[Key]float64, error) {
	lines := csv.NewReader(r)
	lines.ReuseRecord = true
	titles, err := lines.Read()
	if err != nil {
		return nil, fmt.Errorf("read the line of titles: %w", err)
	}
	at := map[string]int{}
	for i, title := range titles {
		at[strings.TrimSpace(title)] = i
	}
	for _, needed := range []string{"instance_name", "location", "price"} {
		if _, ok := at[needed]; !ok {
			return nil, fmt.Errorf("it has no column %s", needed) //nolint:err113 // text for the user
		}
	}
	out := map[Key]float64{}
	for {
		line, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err //nolint:wrapcheck // names line and column
		}
		cell := func(name string) string {
			if i, ok := at[name]; ok {
				return strings.TrimSpace(line[i])
			}
			return ""
		}
		if p := cell("provider"); p != "" && p != backend || cell("price") == "" {
			continue
		}
		price, err := strconv.ParseFloat(cell("price"), 64)
		if err != nil || !(price >= 0) || price > maxPrice {
			n, _ := lines.FieldPos(0)
			return nil, fmt.Errorf("line %d: the price %q is no number of USD an hour", n, cell("price")) //nolint:err113 // text for the user
		}
		if price == 0 {
			continue // not known; nothing costs nothing
		}
		key := Key{cell("instance_name"), cell("location"), strings.EqualFold(cell("spot"), "true")}
		if known, ok := out[key]; !ok || price < known {
			out[key] = price
		}
	}
}

// maxPrice is more than any machine costs an hour, in USD.
const maxPrice = 1e6
