package devenv

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/jobapi"
)

// TestMain lets the test's program be the agent's.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if code, known, err := Run(context.Background(), os.Args[1:], os.Stdout); known {
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			os.Exit(max(code, 1))
		}
	}
	os.Exit(m.Run())
}

// archive is a tar.gz with files in one folder.
func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for name, content := range files {
		h := &tar.Header{Name: "server-linux-x64/" + name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg, Uid: 4242}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// site serves a server's archive, and whatever else a test wants.
func site(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// program stands for an editor's server: it tells what it was asked, and whether
// it finds itself.
const program = "#!/bin/sh\necho \"asked: $*\"\ncommand -v code-server >/dev/null && echo in PATH\n"

func vscode(url string) jobapi.EditorServer {
	return jobapi.EditorServer{
		URL: url + "/commit:abc/server-linux-$arch/stable", Folder: "~/.vscode-server/bin/abc", Program: "bin/code-server",
		Extensions: []string{"ms-python.python", "ms-toolsai.jupyter"},
	}
}

func TestInstall(t *testing.T) {
	t.Parallel()
	data := archive(t, map[string]string{"bin/code-server": program, "node": "x"})
	good := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/commit:abc/server-linux-arm64/stable" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}
	stands := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(data[:len(data)/2])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	const failed = "Installing the VS Code server...\nThe VS Code server was not installed (%s). VS Code installs it when it connects.\n"
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		change  func(*installer, *jobapi.EditorServer)
		want    string
		placed  bool
	}{
		"installed": {good, nil, "Installing the VS Code server...\nasked: --install-extension ms-python.python --install-extension ms-toolsai.jupyter\nin PATH\n", true},
		"no such version": {
			good, func(_ *installer, s *jobapi.EditorServer) { s.URL = strings.Replace(s.URL, "abc", "abd", 1) },
			fmt.Sprintf(failed, "HOST answered 404 Not Found"), false,
		},
		"stands still":   {stands, func(i *installer, _ *jobapi.EditorServer) { i.stall = 50 * time.Millisecond }, fmt.Sprintf(failed, "nothing came any more"), false},
		"no archive":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>log in first</html>") }, nil, fmt.Sprintf(failed, "gzip: invalid header"), false},
		"cut short":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data[:len(data)-8]) }, nil, fmt.Sprintf(failed, "unexpected EOF"), false},
		"another layout": {good, func(_ *installer, s *jobapi.EditorServer) { s.Program = "bin/cursor-server" }, fmt.Sprintf(failed, "what was downloaded has no bin/cursor-server"), true},
		"not a version": {
			good, func(_ *installer, s *jobapi.EditorServer) { s.Folder = "~/.vscode-server/bin/../../../etc" },
			"The VS Code server was not installed (its `version` is not one). VS Code installs it when it connects.\n", false,
		},
		"no home": {
			good, func(i *installer, _ *jobapi.EditorServer) { i.home = "/" },
			"The VS Code server was not installed (the user of the job has no home). VS Code installs it when it connects.\n", false,
		},
		"without extensions": {good, func(_ *installer, s *jobapi.EditorServer) { s.Extensions = nil }, "Installing the VS Code server...\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := site(t, tt.handler)
			var out bytes.Buffer
			i := &installer{out: &out, client: newClient(), home: t.TempDir(), arch: "arm64", stall: time.Minute}
			home, s := i.home, vscode(url)
			if tt.change != nil {
				tt.change(i, &s)
			}
			i.install(t.Context(), "VS Code", s)
			got := strings.ReplaceAll(out.String(), strings.TrimPrefix(url, "http://"), "HOST")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			if placed := isFile(filepath.Join(home, ".vscode-server/bin/abc/bin/code-server")); placed != tt.placed {
				t.Errorf("server in its place: %v", placed)
			}
			left, err := filepath.Glob(filepath.Join(home, ".vscode-server/bin/*part"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// TestInstallOnce leaves a server alone that an earlier run left in a volume, and
// says if its extensions fail.
func TestInstallOnce(t *testing.T) {
	t.Parallel()
	calls := 0
	data := archive(t, map[string]string{"bin/code-server": "#!/bin/sh\nexit 3\n"})
	url := site(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		_, _ = w.Write(data)
	})
	var out bytes.Buffer
	i := &installer{out: &out, client: newClient(), home: t.TempDir(), arch: "x64", stall: time.Minute}
	for range 2 {
		i.install(t.Context(), "VS Code", vscode(url))
	}
	want := "Installing the VS Code server...\n" +
		"The extensions ms-python.python, ms-toolsai.jupyter were not installed (exit status 3). Install them in VS Code.\n"
	if diff := cmp.Diff(want, out.String()); diff != "" || calls != 1 {
		t.Errorf("%d downloads, output (-want +got):\n%s", calls, diff)
	}
}

// start starts a development environment as the agent does.
func start(t *testing.T, d jobapi.DevEnvironment, shell string, script string) (*exec.Cmd, *bufio.Reader, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv, err := Wrap(self, d, []string{shell, "-i", "-c", script})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "DSTACK_WORKING_DIR=/work/it's here", "HOME="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out), &stderr
}

// TestEnvironment checks the end of the log, that the environment stays up until
// it is stopped, and that it does without a shell where nothing needs one.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	const ssh = "To connect via SSH, use: `ssh dev`\n\nTo exit, press Ctrl+C."
	for name, tt := range map[string]struct {
		d      jobapi.DevEnvironment
		shell  string
		script string
		want   string
	}{
		"editor": {
			jobapi.DevEnvironment{Editor: "VS Code", Link: "vscode://vscode-remote/ssh-remote+dev", Host: "dev", NeedsShell: true}, "/bin/sh", "cd / && echo in $PWD",
			"in /\nTo open in VS Code, use link below:\n\n  vscode://vscode-remote/ssh-remote+dev/work/it's here\n\n" + ssh,
		},
		"no editor":            {jobapi.DevEnvironment{Host: "dev"}, "/bin/sh", "echo", "\n" + ssh},
		"no shell":             {jobapi.DevEnvironment{Host: "dev"}, "/nowhere/sh", "echo", ssh},
		"a server on the way":  {jobapi.DevEnvironment{Editor: "E", Link: "e://", Host: "dev", Server: &jobapi.EditorServer{Folder: "x"}}, "/nowhere/sh", "", "The E server was not installed (its `version` is not one). E installs it when it connects.\nTo open in E, use link below:\n\n  e:///work/it's here\n\n" + ssh},
		"quotes in its values": {jobapi.DevEnvironment{Editor: "it's", Link: `'"$x`, Host: "dev"}, "/bin/sh", "true", "To open in it's, use link below:\n\n  '\"$x/work/it's here\n\n" + ssh},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd, out, stderr := start(t, tt.d, tt.shell, tt.script)
			got := make([]byte, len(tt.want))
			if _, err := io.ReadFull(out, got); err != nil {
				t.Fatalf("%v after %q, %s", err, got, stderr)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(out)
			if err != nil || len(rest) > 0 {
				t.Errorf("then %q, %v", rest, err)
			}
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestEnvironmentFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		shell, script string
		code          int
		says          string
	}{
		"init fails":     {"/bin/sh", "exit 7", 7, ""},
		"needs a shell":  {"/nowhere/sh", "true", 127, "`init` needs /nowhere/sh, which is not in the image"},
		"shell is a dir": {"/tmp", "true", 126, "start /tmp: permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd, out, stderr := start(t, jobapi.DevEnvironment{Host: "dev", NeedsShell: true}, tt.shell, tt.script)
			if _, err := io.Copy(io.Discard, out); err != nil {
				t.Error(err)
			}
			err := cmd.Wait()
			if cmd.ProcessState.ExitCode() != tt.code || !strings.Contains(stderr.String(), tt.says) {
				t.Errorf("ended with %v: %s", err, stderr)
			}
		})
	}
	for _, args := range [][]string{{Command}, {Command, "{"}, {waitCommand, "x"}, {Command, "{}", "sh"}} {
		if code, known, err := Run(t.Context(), args, io.Discard); code == 0 || !known || err == nil {
			t.Errorf("%q: %d, %v, %v", args, code, known, err)
		}
	}
	if _, known, _ := Run(t.Context(), []string{"init"}, io.Discard); known {
		t.Error("init is not a command of development environments")
	}
}

// TestRoots trusts Mozilla's roots where the image has none.
func TestRoots(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("SSL_CERT_FILE", filepath.Join(empty, "none"))
	t.Setenv("SSL_CERT_DIR", empty)
	// What is in use is read once in a process, so another one looks.
	if os.Getenv("DEVENV_ROOTS") == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestRoots$")
		cmd.Env = append(os.Environ(), "DEVENV_ROOTS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	if pool := roots(); pool == nil {
		t.Error("no roots")
	} else if len(pool.Subjects()) < 50 { //nolint:staticcheck // not a system pool
		t.Errorf("%d roots", len(pool.Subjects())) //nolint:staticcheck // as above
	}
}
