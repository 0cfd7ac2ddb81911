package health

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/hostapi"
)

func fixture(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// host is a host's tools: what each command line prints, and fails with.
type host struct {
	says  map[string]string
	fails map[string]error
	asked []string
}

func (h *host) run(_ context.Context, name string, args ...string) ([]byte, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	h.asked = append(h.asked, line)
	for start, err := range h.fails {
		if strings.HasPrefix(line, start) {
			return []byte(h.says[start]), err
		}
	}
	for start, out := range h.says {
		if strings.HasPrefix(line, start) {
			return []byte(out), nil
		}
	}
	return nil, &exec.Error{Name: name, Err: exec.ErrNotFound}
}

const (
	good = "0, GPU-a, No, No, No, 0\n1, GPU-b, No, No, No, 0\n"
	// worn is what differs between generations: no row remapping, no ECC.
	worn = "0, GPU-a, [N/A], [N/A], Yes, [N/A]\n1, GPU-b, Yes, Yes, [N/A], 2\n"
)

func incidents(h *hostapi.Health) []string {
	var out []string
	for _, i := range h.Incidents {
		out = append(out, i.Status+": "+i.Message)
	}
	return out
}

func TestCheck(t *testing.T) {
	t.Parallel()
	exit := &exec.ExitError{Stderr: []byte("boom")}
	for name, tt := range map[string]struct {
		says   map[string]string
		fails  map[string]error
		log    string
		logErr error
		status string
		want   []string
	}{
		"dcgm, all well": {says: map[string]string{"dcgmi health --check": fixture(t, "dcgm-healthy.json")}, status: "healthy"},
		"dcgm, two GPUs": {says: map[string]string{"dcgmi health --check": fixture(t, "dcgm-failure.json")}, status: "failure", want: []string{
			"warning: GPU 0, PCIe system: Detected more than 8 PCIe replays per minute for GPU 0 : 99 Reconnect PCIe card. Run system side PCIE diagnostic utilities to verify hops off the GPU board.",
			"failure: GPU 3, Memory system: GPU 3 had uncorrectable memory errors and row remapping failed.",
		}},
		"dcgm without its engine": {
			says:   map[string]string{"dcgmi": "Error: unable to establish a connection to the specified host: localhost", "nvidia-smi": good},
			fails:  map[string]error{"dcgmi": exit},
			status: "healthy",
		},
		"no dcgm, all well": {says: map[string]string{"nvidia-smi": good}, status: "healthy"},
		"a real H100":       {says: map[string]string{"nvidia-smi": fixture(t, "nvidia-smi-h100.csv")}, log: fixture(t, "kmsg-h100"), status: "healthy"},
		"worn out": {says: map[string]string{"nvidia-smi": worn}, status: "failure", want: []string{
			"warning: GPU 0 (GPU-a): pages of its memory are to be retired: reset the GPU or reboot the host",
			"failure: GPU 1 (GPU-b): a row of its memory could not be replaced: the GPU has to be exchanged",
			"warning: GPU 1 (GPU-b): rows of its memory are to be replaced: reset the GPU or reboot the host",
			"failure: GPU 1 (GPU-b): its memory had errors that could not be corrected: reset the GPU or reboot the host",
		}},
		"kernel log": {says: map[string]string{"nvidia-smi": good}, log: fixture(t, "kmsg"), status: "failure", want: []string{
			"failure: GPU at PCI 0000:91:00: XID 79 in the kernel's log: pid='<unknown>', name=<unknown>, GPU has fallen off the bus. (reset the GPU and run `dmesg --clear`, or reboot the host)",
			"warning: GPU at PCI 0000:05:00: XID 63 in the kernel's log: pid=2255, name=python3, Row Remapper: New row marked for remapping, reset gpu to activate. (reset the GPU and run `dmesg --clear`, or reboot the host)",
		}},
		"log that cannot be read": {says: map[string]string{"nvidia-smi": good}, logErr: errors.New("no"), status: "warning", want: []string{
			"warning: The kernel's log cannot be read for errors of the driver: no",
		}},
		"GPU lost": {
			says:   map[string]string{"nvidia-smi": "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system to recover this GPU\n"},
			fails:  map[string]error{"nvidia-smi": exit},
			status: "failure",
			want: []string{
				"failure: nvidia-smi fails: <nil>: boom Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost. Reboot the system to recover this GPU",
			},
		},
		"no nvidia-smi": {status: "warning", want: []string{`warning: nvidia-smi fails: exec: "nvidia-smi": executable file not found in $PATH`}},
		"nvidia-smi prints something else": {says: map[string]string{"nvidia-smi": "what?\n"}, status: "failure", want: []string{
			"failure: nvidia-smi fails: read state of GPUs: record on line 1: wrong number of fields what?",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := host{says: tt.says, fails: tt.fails}
			c := Checker{
				Root: fstest.MapFS{"dev/nvidiactl": {}}, Run: h.run, Log: func() (string, error) { return tt.log, tt.logErr },
			}
			got := c.Check(t.Context())
			if got.Status != tt.status {
				t.Errorf("status = %s, want %s", got.Status, tt.status)
			}
			if diff := cmp.Diff(tt.want, incidents(got)); diff != "" {
				t.Errorf("incidents (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOtherHostsAreNotAsked(t *testing.T) {
	t.Parallel()
	h := host{}
	if got := (Checker{Root: fstest.MapFS{"dev/kfd": {}}, Run: h.run}).Check(t.Context()); got != nil || h.asked != nil {
		t.Errorf("health %+v, asked %v", got, h.asked)
	}
}

func TestToolkit(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	h := host{says: map[string]string{"nvidia-smi": good}}
	c := Checker{Root: fstest.MapFS{"dev/nvidiactl": {}}, Run: h.run, Log: func() (string, error) { return "", nil }, Toolkit: Toolkit}
	got := c.Check(t.Context())
	if want := []string{"warning: Containers cannot get GPUs: install the nvidia-container-toolkit and restart Docker"}; !cmp.Equal(incidents(got), want) {
		t.Errorf("without: %v", incidents(got))
	}
	if err := os.WriteFile(filepath.Join(dir, "nvidia-container-runtime-hook"), []byte("#!"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := c.Check(t.Context()); got.Status != hostapi.Healthy {
		t.Errorf("with: %+v", got)
	}
}

// TestWatchesAreSet: a host engine that watches nothing yet is told to.
func TestWatchesAreSet(t *testing.T) {
	t.Parallel()
	var asked []string
	run := func(_ context.Context, name string, args ...string) ([]byte, error) {
		asked = append(asked, strings.Join(append([]string{name}, args...), " "))
		if len(asked) == 1 {
			return []byte("Error: Health watches not enabled. Please enable watches. \n"), &exec.ExitError{}
		}
		return []byte(fixture(t, "dcgm-healthy.json")), nil
	}
	got := Checker{Root: fstest.MapFS{"dev/nvidiactl": {}}, Run: run}.Check(t.Context())
	want := []string{"dcgmi health --check --json", "dcgmi health --set a", "dcgmi health --check --json"}
	if diff := cmp.Diff(want, asked); diff != "" || got.Status != hostapi.Healthy {
		t.Errorf("%+v, asked (-want +got):\n%s", got, diff)
	}
}

// TestOldDriver: fields that it does not know are left out.
func TestOldDriver(t *testing.T) {
	t.Parallel()
	run := func(_ context.Context, _ string, args ...string) ([]byte, error) {
		if strings.Contains(args[0], "remapped_rows") {
			return []byte(`Field "remapped_rows.failure" is not a valid field to query.`), &exec.ExitError{}
		}
		return []byte("0, GPU-a\n"), nil
	}
	if got := (Checker{Run: run}).smi(t.Context(), "nvidia-smi"); got != nil {
		t.Errorf("incidents: %+v", got)
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	if got := Failed(&exec.Error{Name: "hl-smi", Err: exec.ErrNotFound}); got.Status != hostapi.HealthWarning {
		t.Errorf("tool missing: %+v", got)
	}
	got := Failed(errors.New("GPU is lost\n  forever"))
	if want := []string{"failure: The accelerators cannot be listed: GPU is lost forever"}; !cmp.Equal(incidents(got), want) {
		t.Errorf("tool fails: %v", incidents(got))
	}
}

func TestJudgeIsBounded(t *testing.T) {
	t.Parallel()
	many := make([]hostapi.Incident, 100)
	for i := range many {
		many[i] = hostapi.Incident{Status: hostapi.HealthWarning, Message: strings.Repeat("ä", 1000)}
	}
	many[99].Status = hostapi.HealthFailure
	got := judge(many)
	if len(got.Incidents) != hostapi.MaxIncidents || got.Status != hostapi.HealthFailure {
		t.Errorf("%d incidents, %s", len(got.Incidents), got.Status)
	}
	if m := got.Incidents[0].Message; len(m) > hostapi.MaxIncidentText || strings.Trim(m, "ä") != "" {
		t.Errorf("message of %d bytes: %q", len(m), m)
	}
}

func TestKernelLog(t *testing.T) {
	t.Parallel()
	text, err := KernelLog(filepath.Join("testdata", "kmsg"))
	if err != nil || text != fixture(t, "kmsg") {
		t.Errorf("log of a file: %q, %v", text, err)
	}
	if text, err := KernelLog(filepath.Join(t.TempDir(), "none")); err != nil || text != "" {
		t.Errorf("no log: %q, %v", text, err)
	}
	if _, err := KernelLog(t.TempDir()); err == nil {
		t.Error("a folder was read as a log")
	}
}

func FuzzDCGM(f *testing.F) {
	f.Add(fixture(f, "dcgm-failure.json"))
	f.Add(`{"body":{"Overall Health":{"value":"Internal error"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseDCGM([]byte(text))
		if err == nil && strings.Contains(text, `"Failure"`) && len(list) > 0 && judge(list).Status == hostapi.Healthy {
			t.Errorf("incidents of a host that is well: %v", list)
		}
	})
}

func FuzzSMI(f *testing.F) {
	f.Add(worn)
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseSMI([]byte(text), ailments()) })
}

func FuzzXID(f *testing.F) {
	f.Add(fixture(f, "kmsg"))
	f.Fuzz(func(t *testing.T, text string) {
		for _, i := range xids(text) {
			if i.Status == hostapi.Healthy {
				t.Errorf("%+v", i)
			}
		}
	})
}
