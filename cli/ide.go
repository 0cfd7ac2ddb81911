package cli

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dstack/cli/term"
	"dstack/protocol/config"
)

// ideTime is how long an IDE's command may take to tell its version.
const ideTime = 10 * time.Second

// detectIDE sets the version of the user's IDE, so that the run installs what
// fits it (spec: cli.md 13).
func (a *App) detectIDE(ctx context.Context, env *config.DevEnvironment) {
	if env.IDE == nil || env.Version != nil {
		return
	}
	var name, found string
	switch *env.IDE {
	case config.IDEVSCode:
		name, found = "VS Code", commitOf(ctx, "code")
	case config.IDECursor:
		name, found = "Cursor", commitOf(ctx, "cursor")
	case config.IDEWindsurf:
		name, found = "Windsurf", windsurfVersion()
	default:
		return
	}
	if found != "" {
		env.Version = &found
		return
	}
	a.Print(a.Paint(term.Secondary, "Unable to detect the "+name+" version and pre-install extensions. "+
		"Fix by opening Command Palette, executing Shell Command: Install '"+ideCommands[*env.IDE]+"' command in PATH, and restarting terminal.") + "\n")
}

var ideCommands = map[string]string{config.IDEVSCode: "code", config.IDECursor: "cursor", config.IDEWindsurf: "windsurf"}

// commitOf is the second line of what a command of the VS Code family says
// about its version; empty if it can't be run.
func commitOf(ctx context.Context, command string) string {
	ctx, cancel := context.WithTimeout(ctx, ideTime)
	defer cancel()
	text, err := exec.CommandContext(ctx, command, "--version").Output()
	if err != nil {
		return ""
	}
	lines := strings.Split(string(text), "\n")
	return strings.TrimSpace(append(lines, "")[1])
}

// windsurfLevels is how far above its command Windsurf's description lies.
const windsurfLevels = 6

// windsurfVersion reads VERSION@COMMIT from the description beside Windsurf's
// program; empty if it is not there.
func windsurfVersion() string {
	path, err := exec.LookPath("windsurf")
	if err != nil {
		return ""
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return ""
	}
	dir := filepath.Dir(path)
	for range windsurfLevels {
		if data, err := os.ReadFile(filepath.Join(dir, "resources", "app", "product.json")); err == nil {
			return productVersion(data)
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

func productVersion(data []byte) string {
	var product struct {
		Version string `json:"windsurfVersion"`
		Commit  string `json:"commit"`
	}
	if json.Unmarshal(data, &product) != nil || product.Version == "" || product.Commit == "" {
		return ""
	}
	return product.Version + "@" + product.Commit
}
