package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dstack/cli/term"
	"dstack/protocol/config"
)

// TestDetectIDE finds the versions of the editors of this machine (spec: cli.md
// 13).
func TestDetectIDE(t *testing.T) {
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	bin, empty := filepath.Join(root, "bin"), filepath.Join(root, "empty")
	write(filepath.Join(bin, "code"), "#!/bin/sh\nprintf '1.99.0\\n17baf841131aa23349f217ca7c570c76ee87b957\\nx64\\n'\n", 0o755)
	write(filepath.Join(bin, "cursor"), "#!/bin/sh\necho 1.0.0\n", 0o755)
	write(filepath.Join(root, "opt/windsurf/bin/windsurf"), "#!/bin/sh\n", 0o755)
	write(filepath.Join(root, "opt/windsurf/resources/app/product.json"), `{"windsurfVersion":"1.2.3","commit":"c0ffee"}`, 0o600)
	if err := os.Symlink("../opt/windsurf/bin/windsurf", filepath.Join(bin, "windsurf")); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path, ide, version string // version is that of the file
		want, says         string
	}{
		"vscode":            {bin, config.IDEVSCode, "", "17baf841131aa23349f217ca7c570c76ee87b957", ""},
		"cursor, odd":       {bin, config.IDECursor, "", "", "Unable to detect the Cursor version and pre-install extensions. "},
		"windsurf":          {bin, config.IDEWindsurf, "", "1.2.3@c0ffee", ""},
		"zed":               {bin, config.IDEZed, "", "", ""},
		"no editor":         {bin, "", "", "", ""},
		"in the file":       {bin, config.IDEVSCode, "mine", "mine", ""},
		"vscode, missing":   {empty, config.IDEVSCode, "", "", "Unable to detect the VS Code version and pre-install extensions. "},
		"windsurf, missing": {empty, config.IDEWindsurf, "", "", "Unable to detect the Windsurf version and pre-install extensions. "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", tt.path)
			var out bytes.Buffer
			a := &App{Console: &term.Console{Out: &out, Err: &out}}
			env := config.DevEnvironment{}
			if tt.ide != "" {
				env.IDE = &tt.ide
			}
			if tt.version != "" {
				env.Version = &tt.version
			}
			a.detectIDE(t.Context(), &env)
			got := ""
			if env.Version != nil {
				got = *env.Version
			}
			if said := out.String(); got != tt.want || !strings.HasPrefix(said, tt.says) || (said == "") != (tt.says == "") {
				t.Errorf("version %q, %q", got, said)
			}
		})
	}
}
