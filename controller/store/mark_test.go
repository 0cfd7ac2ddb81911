package store

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

// TestMark: a commit that changed something counts once, whether it is in the
// file or in the log; only a new line or fewer commits don't cover a mark.
func TestMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sqlite.db")
	mark := func(folded bool) Mark {
		t.Helper()
		m, err := ReadMark(t.Context(), path, path, folded)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	put := func(tx *Tx) error { return tx.PutSetting("a", "b") }
	plain := openTest(t, Options{Path: path})
	write(t, plain, put)
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}
	if m := mark(true); m != (Mark{}) {
		t.Errorf("without a replica the mark is %+v", m)
	}
	s := openTest(t, Options{Path: path, Replicated: true})
	write(t, s, put)
	write(t, s, put)
	no := errors.New("no")
	if err := s.Write(t.Context(), func(tx *Tx) error { return tx.Settle(Key{Kind: KindRun, ID: "none"}, 1, nil) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(context.WithoutCancel(t.Context()), func(*Tx) error { return no }); !errors.Is(err, no) {
		t.Fatal(err)
	}
	if whole, folded := mark(false), mark(true); whole.Commits != 2 || folded.Commits != 0 {
		t.Errorf("the marks are %+v and %+v", whole, folded)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := mark(true)
	if old.Commits != 2 {
		t.Errorf("in the file the mark is %+v", old)
	}
	if err := Branch(t.Context(), path, path); err != nil {
		t.Fatal(err)
	}
	m := mark(true)
	if m.Commits != 2 || m.Covers(old) || old.Covers(m) || !m.Covers(m) || !m.Covers(Mark{Line: m.Line}) || m.Covers(Mark{Line: m.Line, Commits: 3}) {
		t.Errorf("the mark is %+v after %+v", m, old)
	}
}
