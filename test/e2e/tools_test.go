//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"dstack/protocol/api"
	"dstack/test/lab"
)

// tool is dstack for a job, with this standard input.
func tool(t *testing.T, dir string, in io.Reader, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := toolCommand(ctx, dir, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errs
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func toolCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, lab.Binary("dstack"), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "DSTACK_SERVER_URL="+shared.server.URL, "DSTACK_TOKEN="+lab.Token, "DSTACK_PROJECT=main")
	return cmd
}

// bigFile is how large the file of cp is.
func bigFile(t *testing.T) int {
	t.Helper()
	size := 256
	if text := os.Getenv("DSTACK_TEST_CP_MIB"); text != "" {
		if _, err := fmt.Sscan(text, &size); err != nil {
			t.Fatalf("DSTACK_TEST_CP_MIB: %v", err)
		}
	}
	return size << 20
}

// TestTools has exec, cp, port-forward and top on one job of a busybox image.
func TestTools(t *testing.T) {
	dir := t.TempDir()
	command := "mkdir -p /tmp/www && echo hello from the job > /tmp/www/index.html && httpd -p 8123 -h /tmp/www; while :; do :; done"
	run, err := shared.server.Submit(t.Context(), "tools", map[string]any{"image": lab.Busybox, "commands": []string{command}, "working_dir": "/work"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop := map[string]any{"runs_names": []string{"tools"}, "abort": true}
		if err := shared.server.Call(context.Background(), "project/main/runs/stop", stop, nil); err != nil {
			t.Error(err)
		}
	})
	run, err = shared.server.WaitRun(t.Context(), "tools", 3*time.Minute, "start", func(r api.Run) bool { return r.Status == api.RunRunning })
	if err != nil {
		t.Fatal(err)
	}
	t.Run("exec", func(t *testing.T) { tryExec(t, dir) })
	t.Run("cp", func(t *testing.T) { tryCp(t, dir, run) })
	t.Run("port-forward", func(t *testing.T) { tryPortForward(t, dir) })
	t.Run("top", func(t *testing.T) { tryTop(t, dir) })
}

func tryExec(t *testing.T, dir string) {
	code, stdout, stderr := tool(t, dir, nil, "exec", "tools", "--", "sh", "-c", "pwd; echo $DSTACK_RUN_NAME; echo err >&2; exit 42")
	if code != 42 || stdout != "/work\ntools\n" || stderr != "err\n" {
		t.Errorf("exec: %d, %q, %q", code, stdout, stderr)
	}
	if code, _, _ := tool(t, dir, nil, "exec", "tools", "--", "sh", "-c", "kill -TERM $$"); code != 128+15 {
		t.Errorf("signal: %d", code)
	}
	binary := make([]byte, 5<<20)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(binary)
	code, stdout, stderr = tool(t, dir, bytes.NewReader(binary), "exec", "-i", "tools", "--", "cat")
	if code != 0 || stdout != string(binary) {
		t.Errorf("input: %d, %d bytes, %q", code, len(stdout), stderr)
	}
	cmd := toolCommand(t.Context(), dir, "exec", "tools")
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if _, err := io.WriteString(master, "stty size; exit 7\n"); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(master) // ends with an error, as terminals do
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 7 || !strings.Contains(string(text), "33 99") {
		t.Errorf("shell: %v, %q", err, text)
	}
}

// tryCp copies a big file both ways while the connections of the host are cut,
// and a folder.
func tryCp(t *testing.T, dir string, run api.Run) {
	data := make([]byte, bigFile(t))
	_, _ = rand.NewChaCha8([32]byte{4}).Read(data)
	if err := os.WriteFile(filepath.Join(dir, "big"), data, 0o640); err != nil {
		t.Fatal(err)
	}
	var machine *lab.Machine
	for _, m := range shared.machines {
		if m.IP == *run.LatestJobSubmission.JobProvisioningData.Hostname {
			machine = m
		}
	}
	cutWhen := func(begun func() bool) (wait func()) {
		done, over := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for !begun() {
				select {
				case <-over:
					return
				case <-time.After(2 * time.Millisecond):
				}
			}
			// Those that only forward have neither @ nor [priv] in their names.
			if _, err := machine.Exec(t.Context(), "pkill -KILL -f '^sshd: [a-z]+( |@|$)'"); err != nil {
				t.Error(err)
			}
		}()
		return func() {
			close(over)
			<-done
		}
	}
	larger := func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > int64(len(data))/3
	}
	for _, c := range []struct {
		what, from, to string
		begun          func() bool
	}{
		{"to the job", filepath.Join(dir, "big"), "tools:", func() bool {
			code, _, _ := tool(t, dir, nil, "exec", "tools", "--", "sh", "-c", fmt.Sprintf("test $(wc -c < big.dstack-part) -gt %d", len(data)/4))
			return code == 0
		}},
		{"from the job", "tools:big", filepath.Join(dir, "back"), func() bool { return larger(filepath.Join(dir, "back.dstack-part")) }},
	} {
		began := time.Now()
		wait := cutWhen(c.begun)
		code, stdout, stderr := tool(t, dir, nil, "cp", c.from, c.to)
		wait()
		// Where it went on depends on the moment; the tests of cli have that.
		t.Logf("%s: %s, %s", c.what, time.Since(began).Round(time.Millisecond), stdout)
		if code != 0 {
			t.Fatalf("%s: %d, %q, %q", c.what, code, stdout, stderr)
		}
	}
	back, err := os.ReadFile(filepath.Join(dir, "back"))
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("what came back differs (%v)", err)
	}
	tree := filepath.Join(dir, "tree")
	for name, text := range map[string]string{"a": "one", "with space/b": "two", "c/d/e": ""} {
		path := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("with space/b", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"cp", tree, "tools:/tmp/"}, {"cp", "tools:/tmp/tree", filepath.Join(dir, "again")}} {
		if code, stdout, stderr := tool(t, dir, nil, args...); code != 0 {
			t.Fatalf("%q: %d, %q, %q", args, code, stdout, stderr)
		}
	}
	if out, err := exec.Command("diff", "-r", "--no-dereference", tree, filepath.Join(dir, "again")).CombinedOutput(); err != nil {
		t.Errorf("folder: %v, %s", err, out)
	}
}

func tryPortForward(t *testing.T, dir string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := toolCommand(ctx, dir, "port-forward", "tools", ":8123", "--json")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
			t.Errorf("port-forward: %v", err)
		}
	}()
	var got struct {
		Ports []struct {
			URL string `json:"url"`
		} `json:"ports"`
	}
	if err := json.NewDecoder(out).Decode(&got); err != nil || len(got.Ports) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	resp, err := http.Get(got.Ports[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "hello from the job\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// tryTop sees that the job keeps a CPU busy.
func tryTop(t *testing.T, dir string) {
	err := lab.Wait(t.Context(), time.Minute, "a busy CPU", func(context.Context) error {
		code, stdout, stderr := tool(t, dir, nil, "top", "tools", "--json", "--once")
		var got struct {
			Jobs []api.JobUsage `json:"jobs"`
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 {
			return fmt.Errorf("%d, %q, %q, %w", code, stdout, stderr, err)
		}
		if len(got.Jobs) != 1 || got.Jobs[0].CPUPercent == nil || *got.Jobs[0].CPUPercent < 20 {
			return fmt.Errorf("usage is %s: %w", stdout, errNotReady)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := tool(t, dir, nil, "top"); code != 0 || !strings.Contains(stdout, "\n tools ") {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
}
