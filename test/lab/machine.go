//go:build e2e

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// capabilities are all but sys_resource, which this kind of machine lacks.
const capabilities = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable " +
	"net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace " +
	"sys_pacct sys_admin sys_boot sys_nice sys_time sys_tty_config mknod lease audit_write audit_control setfcap " +
	"mac_override mac_admin syslog wake_alarm block_suspend audit_read"

// Machine is one host of the lab.
type Machine struct {
	Name string
	IP   string
	// Key is the path of a private key that logs in as ubuntu (sudo without
	// password), plain (no sudo) and root.
	Key  string
	init string
	// groups is where the machine's control groups are on this one, empty for
	// the usual place.
	groups string
	lab    *Lab
}

// MachineOptions changes a machine from the usual one.
type MachineOptions struct {
	// NoDocker removes the Docker Engine.
	NoDocker bool
	// LiveRestore lets containers survive a restart of the engine.
	LiveRestore bool
	// NoSFTP switches off sshd's sftp subsystem.
	NoSFTP bool
	// NoSystemd runs nothing but sshd: no systemd, and so no Docker Engine.
	NoSystemd bool
	// Unified shows the machine control groups of version 2 alone, without
	// controllers: those are all in use as version 1.
	Unified bool
	// Images are loaded into the machine's engine.
	Images []string
}

// NewMachine boots a machine and waits until it takes logins and, unless
// NoDocker, its engine runs.
func (l *Lab) NewMachine(ctx context.Context, opts MachineOptions) (*Machine, error) {
	n := len(l.machines) + 11
	m := &Machine{Name: fmt.Sprintf("machine%d", n), IP: fmt.Sprintf("172.30.99.%d", n), Key: filepath.Join(l.dir, fmt.Sprintf("key%d", n)), init: "systemd", lab: l}
	if _, err := output(exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", m.Key)); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	var command []string
	if opts.NoSystemd {
		m.init, opts.NoDocker = "sshd", true
		command = []string{"sh", "-c", "mkdir -p /run/sshd && ssh-keygen -A >/dev/null && exec /usr/sbin/sshd -D"}
	}
	if opts.Unified {
		m.groups = "/sys/fs/cgroup/unified"
	}
	if err := l.create(ctx, m, nil, l.image, command...); err != nil {
		return nil, err
	}
	l.machines = append(l.machines, m)
	if err := m.prepare(ctx, opts); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", m.Name, err)
	}
	for _, image := range opts.Images {
		if err := m.Load(ctx, image); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// create makes the machine's container, which does not run yet.
func (l *Lab) create(ctx context.Context, m *Machine, options []string, image string, command ...string) error {
	args := []string{"create", "--name", m.Name, "--hostname", m.Name, "--network", network, "--ip", m.IP,
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
		"--cgroupns=host", "-v", cmp.Or(m.groups, "/sys/fs/cgroup") + ":/sys/fs/cgroup:rw", "--tmpfs", "/run", "--tmpfs", "/run/lock", "-v", "/var/lib/docker"}
	for c := range strings.FieldsSeq(capabilities) {
		args = append(args, "--cap-add", c)
	}
	args = append(append(args, options...), image)
	_, err := l.Docker(ctx, append(args, command...)...)
	return err
}

// Rack makes a machine of an image, with more options of `docker create`, and
// leaves it switched off. The caller removes it.
func (l *Lab) Rack(ctx context.Context, name, ip, image string, options ...string) (*Machine, error) {
	m := &Machine{Name: name, IP: ip, init: "systemd", lab: l}
	return m, l.create(ctx, m, options, image)
}

// Power starts the machine and does not wait for it.
func (m *Machine) Power(ctx context.Context) error {
	_, err := m.lab.Docker(ctx, "start", m.Name)
	return err
}

// Put copies the content of a folder of this machine into one of the machine's,
// which may be switched off.
func (m *Machine) Put(ctx context.Context, from, to string) error {
	_, err := m.lab.Docker(ctx, "cp", from+"/.", m.Name+":"+to)
	return err
}

func (m *Machine) prepare(ctx context.Context, opts MachineOptions) error {
	if err := m.Start(ctx); err != nil {
		return err
	}
	public, err := os.ReadFile(m.Key + ".pub")
	if err != nil {
		return fmt.Errorf("read public key: %w", err)
	}
	script := `for home in /root /home/ubuntu /home/plain; do
	mkdir -p $home/.ssh && echo "$1" >$home/.ssh/authorized_keys && chmod 700 $home/.ssh
	chown -R $(stat -c %u $home) $home/.ssh
done
`
	if m.init == "systemd" {
		// Without host keys sshd failed at boot more often than its limit allows.
		script += "ssh-keygen -A >/dev/null; systemctl reset-failed ssh || true; systemctl restart ssh"
	}
	if opts.NoSFTP {
		script = "sed -i '/^Subsystem/d' /etc/ssh/sshd_config\n" + script
	}
	if opts.LiveRestore {
		script = `sed -i 's/^{/{"live-restore": true, /' /etc/docker/daemon.json; systemctl restart docker` + "\n" + script
	}
	if opts.NoDocker && m.init == "systemd" {
		script = "systemctl disable --now docker docker.socket containerd; rm -f /usr/sbin/dockerd /usr/bin/docker\n" + script
	}
	if _, err := m.lab.Docker(ctx, "exec", m.Name, "sh", "-ec", script, "sh", strings.TrimSpace(string(public))); err != nil {
		return err
	}
	if opts.NoDocker {
		return nil
	}
	return Wait(ctx, 30*time.Second, "Docker Engine of "+m.Name, func(ctx context.Context) error {
		_, err := m.Exec(ctx, "docker version")
		return err
	})
}

// Start boots the machine (again) and waits until systemd, or sshd, is up.
func (m *Machine) Start(ctx context.Context) error {
	if _, err := m.lab.Docker(ctx, "start", m.Name); err != nil {
		return err
	}
	if m.init == "sshd" {
		return Wait(ctx, 30*time.Second, "sshd of "+m.Name, func(ctx context.Context) error {
			_, err := m.Exec(ctx, "pgrep -x sshd")
			return err
		})
	}
	return Wait(ctx, 90*time.Second, "systemd of "+m.Name, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // a question that comes too early may hang
		defer cancel()
		state, err := m.lab.Docker(ctx, "exec", m.Name, "systemctl", "is-system-running")
		if strings.Contains(state, "running") || strings.Contains(state, "degraded") {
			return nil
		}
		return fmt.Errorf("systemd is %q: %w", state, errors.Join(err, errNotYet))
	})
}

var errNotYet = errors.New("not yet")

// Exec runs a shell command as root on the machine, not over SSH.
func (m *Machine) Exec(ctx context.Context, command string) (string, error) {
	return m.lab.Docker(ctx, "exec", m.Name, "sh", "-c", command)
}

// Load puts an image of the lab's engine into the machine's engine.
func (m *Machine) Load(ctx context.Context, image string) error {
	save := exec.CommandContext(ctx, "docker", "-H", "unix://"+m.lab.socket, "save", image)
	pipe, err := save.StdoutPipe()
	if err != nil {
		return fmt.Errorf("pipe image: %w", err)
	}
	if err := save.Start(); err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	_, err = m.lab.docker(ctx, pipe, "exec", "-i", m.Name, "docker", "load")
	return errors.Join(err, save.Wait())
}

// Crash cuts the power: everything on the machine dies at once.
func (m *Machine) Crash(ctx context.Context) error {
	_, err := m.lab.Docker(ctx, "kill", m.Name)
	return err
}

// Reboot cuts the power and boots again. The kernel is shared with the lab,
// so boot_id stays; the start time of PID 1 changes.
func (m *Machine) Reboot(ctx context.Context) error {
	if err := m.Crash(ctx); err != nil {
		return err
	}
	return m.Start(ctx)
}

// KillProcess sends SIGKILL to the processes of the machine (and of its
// containers) whose command line matches the pattern; it is an error if none does.
func (m *Machine) KillProcess(ctx context.Context, pattern string) error {
	// Brackets keep the pattern from matching the shell that runs pkill.
	_, err := m.Exec(ctx, "pkill -KILL -f '["+pattern[:1]+"]"+pattern[1:]+"'")
	return err
}

// CutConnections ends every SSH connection to the machine.
func (m *Machine) CutConnections(ctx context.Context) error {
	// One that was cut before may be on its way back.
	_, err := m.Exec(ctx, "for i in $(seq 100); do pkill -KILL -f '^sshd: .*(@|\\[priv\\])' && exit 0; sleep 0.1; done; exit 1")
	return err
}

// Containers lists the names of all containers in the machine's engine.
func (m *Machine) Containers(ctx context.Context) ([]string, error) {
	out, err := m.Exec(ctx, "docker ps -a --format '{{.Names}}'")
	return strings.Fields(out), err
}

// Remove ends the machine and its disks.
func (m *Machine) Remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := m.lab.Docker(ctx, "rm", "-fv", m.Name)
	return err
}

// SSH runs a command on the machine as user, with Debian's ssh client.
func SSH(ctx context.Context, m *Machine, user, command string) (string, error) {
	return output(exec.CommandContext(ctx, "ssh", "-i", m.Key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "BatchMode=yes", user+"@"+m.IP, command))
}

// Path is where a path of the machine's file system is seen from this one,
// sockets included; it changes at each boot.
func (m *Machine) Path(ctx context.Context, path string) (string, error) {
	pid, err := m.lab.Docker(ctx, "inspect", "-f", "{{.State.Pid}}", m.Name)
	return filepath.Join("/proc", pid, "root", path), err
}

// Copy puts files and folders, named relative to root, below target on the machine.
func (m *Machine) Copy(ctx context.Context, root, target string, names ...string) error {
	tar := exec.CommandContext(ctx, "tar", append([]string{"-C", root, "-c"}, names...)...)
	pipe, err := tar.StdoutPipe()
	if err != nil {
		return fmt.Errorf("pipe tar: %w", err)
	}
	if err := tar.Start(); err != nil {
		return fmt.Errorf("start tar: %w", err)
	}
	_, err = m.lab.docker(ctx, pipe, "exec", "-i", m.Name, "sh", "-c", "mkdir -p '"+target+"' && tar -C '"+target+"' -x")
	return errors.Join(err, tar.Wait())
}
