package hosts

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"dstack/protocol/hostapi"
	"dstack/protocol/version"
)

// layout is where things lie on a host. Tests have one of their own.
type layout struct {
	shim, agentDir, unit, home string
	// uploads is a pattern of temporary folders that a lost connection may
	// have left behind.
	uploads string
	// oldRunner marks a host of dstack 0.22.
	oldRunner string
}

func standardLayout() layout {
	return layout{
		shim: hostapi.ShimPath, agentDir: hostapi.AgentDir,
		unit: "/etc/systemd/system/" + hostapi.Unit, home: hostapi.Home,
		uploads: "/tmp/dstack-upload.*", oldRunner: oldRunnerPath,
	}
}

func (l layout) agent() string {
	return path.Join(l.agentDir, version.Version, hostapi.AgentName)
}

func (l layout) env() string { return path.Join(l.home, hostapi.EnvName) }

// command is the shell command line of a subcommand of the shim.
func (l layout) command(verb string) string {
	line := quote(l.shim) + " " + verb + " --home " + quote(l.home)
	if verb == "serve" || verb == "supervise" {
		line += " --agent " + quote(l.agent())
	}
	return line
}

// vars are the variables of the scripts that start and remove the shim.
func (l layout) vars(systemd bool) map[string]string {
	yes := "no"
	if systemd {
		yes = "yes"
	}
	return map[string]string{
		"SYSTEMD": yes, "SHIM": l.shim, "AGENT_DIR": l.agentDir, "UNIT": l.unit, "HOME_DIR": l.home,
		"PID_NAME": hostapi.PIDName, "LOG_NAME": hostapi.LogName,
		"UPLOADS":   l.uploads,
		"SUPERVISE": l.command("supervise"), "UNINSTALL": l.command("uninstall"),
	}
}

// unitText is the systemd unit. KillMode=process and Delegate leave the tasks
// alone when the shim is restarted; without PrivateTmp their mounts are the host's.
func (l layout) unitText() string {
	return fmt.Sprintf(`[Unit]
Description=dstack host daemon
After=network-online.target docker.service
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=simple
User=root
WorkingDirectory=%s
EnvironmentFile=-%s
ExecStart=%s
Restart=always
RestartSec=1
KillMode=process
Delegate=yes
OOMScoreAdjust=-900
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`, l.home, l.env(), l.command("serve"))
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// shimEnv is the environment of a shim reached over SSH. Users of such hosts
// expect containers: plain processes only when the fleet's env asks for them.
// What a machine is rented as, no fleet's env can change.
func shimEnv(t Target) map[string]string {
	env := map[string]string{"DSTACK_SHIM_RUNTIME": string(hostapi.Docker)}
	maps.Copy(env, t.Access.Env)
	maps.Copy(env, t.Rented.env())
	return env
}

// envText is an environment in a form that systemd and the shim read alike;
// neither expands variables.
func envText(env map[string]string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var lines []string
	for name, value := range env {
		if envName.MatchString(name) {
			lines = append(lines, name+`="`+escape.Replace(value)+"\"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// quote makes one word of s for a POSIX shell; plain words stay readable.
func quote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=+-]+$`)
