package facts

import (
	"os"
	"testing"
	"testing/fstest"
)

func TestHostIsThisOne(t *testing.T) {
	h, err := Host("/no/such/folder/yet")
	if err != nil {
		t.Fatal(err)
	}
	if h.CPUs < 1 || h.MemoryBytes < 64<<20 || h.DiskBytes < h.DiskFree || h.DiskBytes == 0 || h.Hostname == "" {
		t.Errorf("Host = %+v", h)
	}
}

func TestDiskProblem(t *testing.T) {
	for _, tt := range []struct {
		size, free int64
		full       bool
	}{{100 << 30, 50 << 30, false}, {100 << 30, 1<<30 - 1, true}, {1000 << 30, 9 << 30, true}, {1000 << 30, 10 << 30, false}, {0, 0, false}} {
		if got := DiskProblem("/", tt.size, tt.free); (got != nil) != tt.full {
			t.Errorf("DiskProblem(%d, %d) = %v", tt.size, tt.free, got)
		}
	}
}

func TestBootID(t *testing.T) {
	root := fstest.MapFS{
		"proc/sys/kernel/random/boot_id": {Data: []byte("b007\n")},
		"proc/1/stat":                    {Data: []byte("1 (we) ird) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 10")},
	}
	if got, err := BootID(root); err != nil || got != "b007-4711" {
		t.Errorf("BootID = %q, %v", got, err)
	}
	if got, err := BootID(os.DirFS("/")); err != nil || got == "" {
		t.Errorf("BootID of this host = %q, %v", got, err)
	}
}

func FuzzStartTime(f *testing.F) {
	f.Add([]byte("1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 10"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		got, err := StartTime(fstest.MapFS{"proc/7/stat": {Data: stat}}, 7)
		if err == nil && got == "" {
			t.Error("empty start time")
		}
	})
}

func TestPreparing(t *testing.T) {
	for _, c := range []struct {
		files []string
		want  bool
	}{
		{nil, false}, // no cloud-init here
		{[]string{"run/cloud-init/status.json"}, true},
		{[]string{"run/cloud-init/status.json", "run/cloud-init/result.json"}, false},
		{[]string{"run/cloud-init/status.json", PreparedName}, false},
		{[]string{"run/cloud-init/disabled"}, false},
	} {
		root := fstest.MapFS{}
		for _, name := range c.files {
			root[name] = &fstest.MapFile{}
		}
		if got := Preparing(root); got != c.want {
			t.Errorf("%v: %v, want %v", c.files, got, c.want)
		}
	}
}
