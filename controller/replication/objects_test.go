package replication

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"

	"dstack/controller/objects"
)

// memory is an object storage in memory. before is asked ahead of each
// request, after once a write is done: its error is the answer then.
type memory struct {
	mu            sync.Mutex
	before, after func(op, key string) error
	data          map[string][]byte
	versions      map[string]int
	last          int
}

func newMemory() *memory {
	none := func(string, string) error { return nil }
	return &memory{before: none, after: none, data: map[string][]byte{}, versions: map[string]int{}}
}

func (m *memory) set(before, after func(op, key string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before != nil {
		m.before = before
	}
	if after != nil {
		m.after = after
	}
}

func (m *memory) Read(_ context.Context, key string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before("get", key); err != nil {
		return nil, "", err
	}
	if _, ok := m.data[key]; !ok {
		return nil, "", fmt.Errorf("get %s: %w", key, fs.ErrNotExist)
	}
	return m.data[key], strconv.Itoa(m.versions[key]), nil
}

func (m *memory) fits(key, version string) bool {
	_, exists := m.data[key]
	return exists == (version != "") && (!exists || strconv.Itoa(m.versions[key]) == version)
}

func (m *memory) Write(_ context.Context, key string, data []byte, version string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before("put", key); err != nil {
		return "", err
	}
	if !m.fits(key, version) {
		return "", objects.ErrChanged
	}
	m.last++
	m.data[key], m.versions[key] = data, m.last
	return strconv.Itoa(m.last), m.after("put", key)
}

func (m *memory) Remove(_ context.Context, key, version string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.before("remove", key); err != nil {
		return err
	}
	if !m.fits(key, version) {
		return objects.ErrChanged
	}
	delete(m.data, key)
	return nil
}

func (m *memory) List(_ context.Context, prefix string, each func(objects.Object)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, data := range m.data {
		if strings.HasPrefix(key, prefix) {
			each(objects.Object{Key: key, Size: int64(len(data)), Changed: time.Unix(int64(m.versions[key]), 0)})
		}
	}
	return nil
}

func (m *memory) Get(ctx context.Context, key string) (io.ReadCloser, objects.Object, error) {
	data, version, err := m.Read(ctx, key)
	return io.NopCloser(bytes.NewReader(data)), objects.Object{Key: key, Size: int64(len(data)), Version: version}, err
}

func (m *memory) Close() {}
