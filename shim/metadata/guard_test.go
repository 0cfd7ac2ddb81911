package metadata

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine is a Guard whose programs only note what they are asked to do.
type machine struct {
	*Guard
	dir string
	ran []string
	// fails are the beginnings of commands that fail.
	fails []string
	// version is that of control groups.
	version string
	// says is what each prints.
	says string
	// probed is the group in which was tried what can be reached.
	probed string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{dir: t.TempDir(), version: "1"}
	write := func(name, text string) string {
		path := filepath.Join(m.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	m.Guard = &Guard{
		Groups: m.dir, Inet6: write("if_inet6", ""),
		Mounts: write("mounts", "none "+m.dir+"/other cgroup rw,cpu 0 0\nnone "+m.dir+"/net cgroup rw,net_cls,net_prio 0 0\n"),
		Run: func(_ context.Context, input, name string, args ...string) ([]byte, error) {
			line := name + " " + strings.Join(args, " ")
			if input != "" {
				line += " < " + input
			}
			m.ran = append(m.ran, line)
			for _, f := range m.fails {
				if strings.HasPrefix(line, f) {
					return nil, errors.New("exit status 1")
				}
			}
			return []byte(m.says), nil
		},
		Probe: func(_ context.Context, group, address string) error {
			if _, err := os.Stat(group); err != nil || address != IPv4 {
				t.Errorf("tried to reach %s from %s: %v", address, group, err)
			}
			m.probed = group
			return nil
		},
	}
	return m
}

func TestKeepOnVersion2(t *testing.T) {
	m := newMachine(t)
	m.fails, m.says = []string{"iptables --wait 5 -t raw -C"}, "/outer/dstack.slice\n"
	parent, err := m.Keep(t.Context(), Engine{Driver: "systemd", Version: "2"})
	if err != nil || parent != "dstack.slice" {
		t.Fatalf("parent %q, %v", parent, err)
	}
	rules := func(address, match string) string {
		return "*raw\n:DSTACK-METADATA - [0:0]\n-A DSTACK-METADATA -d " + address + " -j DROP\nCOMMIT\n" +
			"*filter\n:DSTACK-METADATA - [0:0]\n-A DSTACK-METADATA -d " + address + " -m cgroup " + match + " -j REJECT\nCOMMIT\n"
	}
	want := []string{
		"systemctl start dstack.slice",
		"systemctl show --property ControlGroup --value dstack.slice",
		"iptables-restore --wait 5 --noflush < " + rules(IPv4, "--path outer/dstack.slice"),
		"iptables --wait 5 -t raw -C PREROUTING ! -i lo -j DSTACK-METADATA",
		"iptables --wait 5 -t raw -I PREROUTING ! -i lo -j DSTACK-METADATA",
		"iptables --wait 5 -t filter -C OUTPUT -j DSTACK-METADATA",
		"ip6tables-restore --wait 5 --noflush < " + rules(IPv6, "--path outer/dstack.slice"),
		"ip6tables --wait 5 -t raw -C PREROUTING ! -i lo -j DSTACK-METADATA",
		"ip6tables --wait 5 -t filter -C OUTPUT -j DSTACK-METADATA",
	}
	if diff := cmp.Diff(want, m.ran); diff != "" {
		t.Errorf("ran (-want +got):\n%s", diff)
	}
	if m.probed != filepath.Join(m.dir, "outer", "dstack.slice", "dstack-probe") {
		t.Errorf("tried in %s", m.probed)
	}
	if _, err := os.Stat(m.probed); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group of the try is left: %v", err)
	}
}

func TestKeepOnVersion1(t *testing.T) {
	m := newMachine(t)
	m.Inet6 = filepath.Join(m.dir, "none") // a machine without IPv6
	parent, err := m.Keep(t.Context(), Engine{Driver: "cgroupfs", Version: "1"})
	if err != nil || parent != "/dstack" {
		t.Fatalf("parent %q, %v", parent, err)
	}
	if class, err := os.ReadFile(filepath.Join(m.dir, "net", "dstack", "net_cls.classid")); err != nil || string(class) != classID {
		t.Errorf("class %q, %v", class, err)
	}
	if len(m.ran) != 3 || !strings.Contains(m.ran[0], "-m cgroup --cgroup 0xd57ac -j REJECT") {
		t.Errorf("ran %q", m.ran)
	}
}

// Who cannot be kept away must not start.
func TestKeepFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*machine)
		want  string
	}{
		{"no iptables", func(m *machine) { m.fails = []string{"iptables-restore"} }, "set rules of iptables"},
		{"no jump", func(m *machine) { m.fails = []string{"ip6tables --wait"} }, "set rules of ip6tables"},
		{"no slice", func(m *machine) { m.fails = []string{"systemctl"} }, "start dstack.slice"},
		{"no group", func(m *machine) { m.version = "2" }, "find dstack.slice"},
		{"no net_cls", func(m *machine) { m.Mounts = m.Inet6 }, "net_cls is not mounted"},
		{"a rule that matches nothing", func(m *machine) {
			m.Probe = func(context.Context, string, string) error { return ErrReached }
		}, "within reach"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			c.spoil(m)
			if _, err := m.Keep(t.Context(), Engine{Driver: "systemd", Version: m.version}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestSend(t *testing.T) {
	if err := Send(t.Context(), "127.0.0.1"); !errors.Is(err, ErrReached) {
		t.Errorf("this machine: %v", err)
	}
	if err := Reach(t.Context(), t.TempDir()+"/none", "127.0.0.1"); err == nil || errors.Is(err, ErrReached) {
		t.Errorf("a group that is not there: %v", err)
	}
}
