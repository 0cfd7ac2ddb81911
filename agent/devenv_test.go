package agent_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/protocol/jobapi"
)

// TestDevEnvironment is an environment on its terminal: the editor's server is
// fetched, the log ends as 0.22.5's, and the first stage of a stop is enough.
func TestDevEnvironment(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	gz := gzip.NewWriter(&archive)
	tw := tar.NewWriter(gz)
	program := "#!/bin/sh\necho installed $2\n"
	err := tw.WriteHeader(&tar.Header{Name: "vscode-reh/bin/cursor-server", Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = io.WriteString(tw, program)
	}
	if err := errors.Join(err, tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive.Bytes()) }))
	t.Cleanup(site.Close)
	for name, shell := range map[string]string{"sh": "/bin/sh", "bash": "/bin/bash", "none": "/nowhere/sh"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			spec := script(t, "")
			spec.WorkingDir = home
			spec.Env = map[string]string{"HOME": home}
			spec.Commands = []string{shell, "-i", "-c", "echo prepared in $PWD"}
			spec.DevEnvironment = &jobapi.DevEnvironment{
				Editor: "Cursor", Link: "cursor://vscode-remote/ssh-remote+run", Host: "run", NeedsShell: shell != "/nowhere/sh",
				Server: &jobapi.EditorServer{URL: site.URL, Folder: "~/.cursor-server/cli/servers/Stable-1/server", Program: "bin/cursor-server", Extensions: []string{"x.y"}},
			}
			r := start(t, config(t), spec)
			r.output("To exit, press Ctrl+C.")
			prepared := "prepared in " + home + "\n"
			if shell == "/nowhere/sh" {
				prepared = ""
			}
			want := "Installing the Cursor server...\ninstalled x.y\n" + prepared +
				"To open in Cursor, use link below:\n\n  cursor://vscode-remote/ssh-remote+run" + home + "\n\n" +
				"To connect via SSH, use: `ssh run`\n\nTo exit, press Ctrl+C."
			if got := strings.ReplaceAll(r.file(jobapi.PlainLog), "\r", ""); got != want {
				t.Errorf("log:\n%s\nwant:\n%s", got, want)
			}
			if _, err := os.Stat(filepath.Join(home, ".cursor-server/cli/servers/Stable-1/server/bin/cursor-server")); err != nil {
				t.Error(err)
			}
			r.stop(jobapi.StopRequest{Grace: 3600, Reason: "terminated_by_user"})
			check(t, r.end(), jobapi.Status{State: jobapi.Terminated, Reason: "terminated_by_user", ExitStatus: exitOf(130)})
		})
	}
}
