package hosts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/hostapi"
	"dstack/sshlink"
)

func TestSkipPreamble(t *testing.T) {
	noise := strings.Repeat("x", hostapi.MaxPreamble)
	for name, c := range map[string]struct {
		in string
		ok bool
	}{
		"none":           {hostapi.Magic, true},
		"banner":         {"Welcome\r\nDSTACK\n" + hostapi.Magic, true},
		"half a magic":   {"DSTACK-HOSTDSTACK-HOST/" + hostapi.Magic, true},
		"longest":        {noise + hostapi.Magic, true},
		"too long":       {noise + "x" + hostapi.Magic, false},
		"something else": {"bash: dstack-shim: command not found\n", false},
		"empty":          {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := bufio.NewReader(iotest.OneByteReader(strings.NewReader(c.in + "rest")))
			err := skipPreamble(r)
			if (err == nil) != c.ok {
				t.Fatalf("error = %v", err)
			}
			if rest, _ := io.ReadAll(r); c.ok && string(rest) != "rest" {
				t.Errorf("rest = %.40q", rest)
			}
		})
	}
}

func FuzzPreamble(f *testing.F) {
	f.Add([]byte("noise"), []byte("rest"))
	f.Add([]byte("DSTACK-HOST/"), []byte(hostapi.Magic))
	f.Fuzz(func(t *testing.T, noise, rest []byte) {
		if len(noise) > hostapi.MaxPreamble || bytes.Contains(noise, []byte(hostapi.Magic)) {
			t.Skip()
		}
		r := bufio.NewReader(io.MultiReader(bytes.NewReader(noise), strings.NewReader(hostapi.Magic), bytes.NewReader(rest)))
		if err := skipPreamble(r); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, rest) {
			t.Errorf("rest = %q, %v, want %q", got, err, rest)
		}
	})
}

// Whatever a host sends, decoding neither panics nor lets nonsense through.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"hello":{"info":{},"next_seq":1,"tasks":[]}}` + "\n" + `{"seq":1,"task":{"id":"a","state":"running"}}` + "\n"))
	f.Add([]byte(`{"log":{"task_id":"a","offset":0,"at":"2026-01-01T00:00:00Z","data":"aGk="}}` + "\n"))
	f.Add([]byte(`{"log":{"task_id":"a","offset":-1,"data":"aGk="}}` + "\n\n{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		to := make(chan hostapi.Event, len(in)+1)
		if err := readEvents(t.Context(), bytes.NewReader(in), to); err == nil {
			t.Fatal("a stream that ended is no error")
		}
		close(to)
		for e := range to {
			if e.Task != nil && (e.Seq == 0 || e.Task.ID == "") || e.Log != nil && (e.Log.Offset < 0 || len(e.Log.Data) == 0) {
				t.Errorf("nonsense was let through: %+v", e)
			}
			if _, err := json.Marshal(e); err != nil {
				t.Errorf("encode again: %v", err)
			}
		}
	})
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("y", 200)
	r := bufio.NewReaderSize(strings.NewReader("a\n\n"+long+"\n"+long+long+"\n"), 16)
	for _, want := range []string{"a", "", long} {
		if got, err := readLine(r, 300); err != nil || string(got) != want {
			t.Errorf("line = %q, %v, want %q", got, err, want)
		}
	}
	if _, err := readLine(r, 300); err == nil {
		t.Error("a line that is too long was read")
	}
}

func FuzzFacts(f *testing.F) {
	f.Add("Welcome\ndstack-probe-begin\nmachine=x86_64\nroot=yes\nfree_temp=12\ndstack-probe-end\nbye")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := parseFacts(in)
		if err == nil && got.arch() != "" && !strings.Contains(in, got.machine) {
			t.Error("a machine from nowhere")
		}
	})
}

func TestDelay(t *testing.T) {
	kind := func(k sshlink.Kind) error { return fmt.Errorf("connect: %w", &sshlink.Error{Kind: k}) }
	ms := time.Millisecond
	for name, c := range map[string]struct {
		err  error
		want []time.Duration
	}{
		"refused":     {kind(sshlink.Refused), []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 800 * ms}},
		"auth":        {kind(sshlink.AuthFailed), []time.Duration{1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 8000 * ms}},
		"unreachable": {kind(sshlink.Unreachable), []time.Duration{1000 * ms, 2000 * ms, 4000 * ms, 5000 * ms}},
		"changed":     {kind(sshlink.HostKeyChanged), []time.Duration{2000 * ms, 4000 * ms, 8000 * ms, 16000 * ms, 30000 * ms}},
		"permanent":   {&hostapi.Problem{Permanent: true}, []time.Duration{2000 * ms, 4000 * ms}},
		"lost":        {errors.New("eof"), []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []time.Duration
			for n := range c.want {
				got = append(got, delay(c.err, n))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEnvText(t *testing.T) {
	got := envText(map[string]string{"VALUE": `it's "a" $HOME \ 'b'`, "not a name": "x", "EMPTY": ""})
	want := "EMPTY=\"\"\nVALUE=\"it's \\\"a\\\" $HOME \\\\ 'b'\"\n"
	if got != want {
		t.Errorf("text = %s, want %s", got, want)
	}
}

// A shell reads a quoted word as it was meant.
func TestQuote(t *testing.T) {
	for _, value := range []string{"", "plain/word-1.0", "it's \"a\" $HOME `id` \\ \n second line"} {
		out, err := exec.Command("/bin/sh", "-c", "printf %s "+quote(value)).Output()
		if err != nil || string(out) != value {
			t.Errorf("shell read %q, %v, want %q", out, err, value)
		}
	}
}

func TestUnit(t *testing.T) {
	unit := standardLayout().unitText()
	for _, want := range []string{
		"KillMode=process", "Delegate=yes", "Restart=always", "RestartSec=1", "EnvironmentFile=-/root/.dstack/shim.env",
		"ExecStart=/usr/local/bin/dstack-shim serve --home /root/.dstack --agent /usr/local/lib/dstack/",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("unit lacks %q", want)
		}
	}
	if strings.Contains(unit, "PrivateTmp") {
		t.Error("unit has a private /tmp")
	}
}
