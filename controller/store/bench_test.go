package store

import (
	"testing"
	"time"
)

func benchSealer(b *testing.B) *Sealer {
	b.Helper()
	s, err := NewSealer(AESKey{Name: "k", Secret: [32]byte{1}})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkInline is what one step of the simulator costs: read a view, write
// a decision.
func BenchmarkInline(b *testing.B) {
	s := openTest(b, Options{Memory: true, Inline: true})
	write(b, s, seed)
	b.Run("read job", func(b *testing.B) {
		for b.Loop() {
			read(b, s, func(tx *Tx) error { _, err := tx.Job("j1"); return err })
		}
	})
	b.Run("read run", func(b *testing.B) {
		for b.Loop() {
			read(b, s, func(tx *Tx) error { _, err := tx.Run("r1"); return err })
		}
	})
	b.Run("update job", func(b *testing.B) {
		j := testJob()
		for b.Loop() {
			write(b, s, func(tx *Tx) error { return tx.UpdateJob(&j) })
		}
	})
	b.Run("wake", func(b *testing.B) {
		for b.Loop() {
			write(b, s, func(tx *Tx) error { return tx.Wake(at(1), Key{KindJob, "j1"}) })
		}
	})
	b.Run("empty write", func(b *testing.B) {
		for b.Loop() {
			write(b, s, func(*Tx) error { return nil })
		}
	})
	b.Run("reset", func(b *testing.B) {
		for b.Loop() {
			if err := s.Reset(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			write(b, s, seed)
			b.StartTimer()
		}
	})
}

// BenchmarkWrite is durable writes to a file, one after the other and from
// 64 callers at a time, who share commits.
func BenchmarkWrite(b *testing.B) {
	wake := func(tx *Tx) error { return tx.Wake(time.Now(), Key{KindJob, "j1"}) }
	b.Run("one caller", func(b *testing.B) {
		s := openTest(b, Options{Sealer: benchSealer(b)})
		for b.Loop() {
			write(b, s, wake)
		}
	})
	b.Run("64 callers", func(b *testing.B) {
		s := openTest(b, Options{Sealer: benchSealer(b)})
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := s.Write(b.Context(), wake); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkOpen is how long a start waits for the database.
func BenchmarkOpen(b *testing.B) {
	path := b.TempDir() + "/sqlite.db"
	for b.Loop() {
		s, err := Open(b.Context(), Options{Path: path, Sealer: benchSealer(b)})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
