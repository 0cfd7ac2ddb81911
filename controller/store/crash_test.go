package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// writeForever is the child: four goroutines write and print what was
// acknowledged, until the process is killed.
func writeForever(path string) {
	ctx := context.Background()
	s, err := Open(ctx, Options{Path: path})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				k := Key{KindJob, fmt.Sprintf("%d-%d-%d", os.Getpid(), g, i)}
				if err := s.Write(ctx, func(tx *Tx) error { return tx.Wake(at(1), k) }); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				mu.Lock()
				fmt.Println(k.ID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestKill kills a process that writes, several times over; everything that
// it acknowledged is there.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sqlite.db")
	acked := map[string]bool{}
	for range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "STORE_TEST_CHILD="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		scanner := bufio.NewScanner(out)
		for n := 0; scanner.Scan(); n++ {
			acked[scanner.Text()] = true
			if n == 200 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		// The last line may be torn; it then names no key that was written.
		for id := range acked {
			parts := strings.Split(id, "-")
			if _, err := strconv.Atoi(parts[len(parts)-1]); err != nil || len(parts) != 3 {
				delete(acked, id)
			}
		}
	}
	if len(acked) < 1000 {
		t.Fatalf("only %d writes were acknowledged", len(acked))
	}
	s := openTest(t, Options{Path: path})
	read(t, s, func(tx *Tx) error {
		keys, err := tx.AllWork()
		for _, k := range keys {
			delete(acked, k.ID)
		}
		return err
	})
	for id := range acked {
		t.Errorf("write %s was acknowledged and is lost", id)
	}
}
