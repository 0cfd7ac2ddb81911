// Package metadata keeps the containers of a rented machine away from the
// cloud's metadata service, which gives the machine's credentials to whoever
// asks. The cloud's DNS and time servers, at other addresses, stay reachable.
//
// A container on a bridge is told by where its packets come from. One on the
// host's network is told by its control group: all of ours have one parent,
// and the packet filter matches what is sent from below it. What this cannot
// stop is a job that owns the kernel's network anyway: a privileged one, or
// root on the host's network that makes its packets by hand (CAP_NET_RAW).
package metadata

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Addresses of the metadata service by program that filters them.
const (
	IPv4 = "169.254.169.254"
	IPv6 = "fd00:ec2::254"
)

// chain is ours in the tables raw and filter.
const chain = "DSTACK-METADATA"

// classID marks sockets below our control group where the kernel's are of
// version 1.
const classID = "0xd57ac"

// Engine is how Docker makes control groups.
type Engine struct {
	// Driver is "systemd" or "cgroupfs", Version "1" or "2".
	Driver, Version string
}

// Guard sets the packet filter up.
type Guard struct {
	// Groups is where control groups are mounted, /sys/fs/cgroup.
	Groups string
	// Mounts is the kernel's list of mounts, and Inet6 the one of its IPv6
	// addresses, which is not there without IPv6.
	Mounts, Inet6 string
	// Run runs a program with an input and returns what it printed.
	Run func(ctx context.Context, input, name string, args ...string) ([]byte, error)
	// Probe says whether a process in a control group, given by its folder,
	// reaches an address; an error is that it does, or that nobody knows.
	Probe func(ctx context.Context, group, address string) error

	mu sync.Mutex
}

// Keep makes sure that nothing below a control group reaches the metadata
// service, and nothing on a bridge, and returns the parent to give to Docker.
// It may be repeated: whoever else changes the packet filter may have undone it.
func (g *Guard) Keep(ctx context.Context, e Engine) (parent string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	parent, path, err := g.parent(ctx, e)
	if err != nil {
		return "", err
	}
	folder, match, err := g.group(e, path)
	if err != nil {
		return "", err
	}
	if err := g.filter(ctx, "iptables", IPv4, match); err != nil {
		return "", err
	}
	if _, err := os.Stat(g.Inet6); err == nil {
		if err := g.filter(ctx, "ip6tables", IPv6, match); err != nil {
			return "", err
		}
	}
	return parent, g.probe(ctx, folder)
}

// slice is the parent of our containers where systemd makes control groups.
const slice = "dstack.slice"

// parent is the parent of our containers as Docker takes it, and its path.
func (g *Guard) parent(ctx context.Context, e Engine) (parent, path string, err error) {
	if e.Driver != "systemd" {
		return "/dstack", "dstack", nil
	}
	// Docker would make it with the first container; started so, it stays when
	// the last one ends, and with it what the rule refers to.
	if _, err := g.Run(ctx, "", "systemctl", "start", slice); err != nil {
		return "", "", fmt.Errorf("start %s: %w", slice, err)
	}
	if e.Version != "2" {
		return slice, slice, nil
	}
	// On a machine that is a container itself it is not at the top.
	out, err := g.Run(ctx, "", "systemctl", "show", "--property", "ControlGroup", "--value", slice)
	if err != nil {
		return "", "", fmt.Errorf("find %s: %w", slice, err)
	}
	path = strings.TrimPrefix(strings.TrimSpace(string(out)), "/")
	if filepath.Base(path) != slice {
		return "", "", fmt.Errorf("find %s: systemd says that it is at %q", slice, out)
	}
	return slice, path, nil
}

// group makes the control group, and says how the packet filter knows it.
func (g *Guard) group(e Engine, path string) (folder, match string, err error) {
	if e.Version == "2" {
		folder = filepath.Join(g.Groups, path)
		return folder, "--path " + path, makeFolder(folder)
	}
	top, err := g.netClass()
	if err != nil {
		return "", "", err
	}
	folder = filepath.Join(top, path)
	if err := makeFolder(folder); err != nil {
		return "", "", err
	}
	// Groups made below it inherit this.
	if err := os.WriteFile(filepath.Join(folder, "net_cls.classid"), []byte(classID), 0o644); err != nil {
		return "", "", fmt.Errorf("mark control group: %w", err)
	}
	return folder, "--cgroup " + classID, nil
}

func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	return nil
}

// netClass is where the controller is that marks sockets.
func (g *Guard) netClass() (string, error) {
	mounts, err := os.ReadFile(g.Mounts)
	if err != nil {
		return "", fmt.Errorf("list mounts: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 3 && f[2] == "cgroup" && strings.Contains(","+f[3]+",", ",net_cls,") {
			return f[1], nil
		}
	}
	return "", errors.New("the control group net_cls is not mounted")
}

// filter sets our chains, whole at once, then has packets go through them.
func (g *Guard) filter(ctx context.Context, program, address, match string) error {
	rules := fmt.Sprintf("*raw\n:%[1]s - [0:0]\n-A %[1]s -d %[2]s -j DROP\nCOMMIT\n"+
		"*filter\n:%[1]s - [0:0]\n-A %[1]s -d %[2]s -m cgroup %[3]s -j REJECT\nCOMMIT\n", chain, address, match)
	if _, err := g.Run(ctx, rules, program+"-restore", "--wait", "5", "--noflush"); err != nil {
		return fmt.Errorf("set rules of %s: %w", program, err)
	}
	for _, jump := range [][]string{
		// What comes from a container, never what the host itself sends.
		{"raw", "PREROUTING", "!", "-i", "lo", "-j", chain},
		{"filter", "OUTPUT", "-j", chain},
	} {
		rule := func(verb string) []string {
			return append([]string{"--wait", "5", "-t", jump[0], verb}, jump[1:]...)
		}
		if _, err := g.Run(ctx, "", program, rule("-C")...); err == nil {
			continue
		}
		if _, err := g.Run(ctx, "", program, rule("-I")...); err != nil {
			return fmt.Errorf("set rules of %s: %w", program, err)
		}
	}
	return nil
}

// probe tries it: a rule that matches nothing looks as good as one that works.
func (g *Guard) probe(ctx context.Context, folder string) error {
	group := filepath.Join(folder, "dstack-probe")
	if err := makeFolder(group); err != nil {
		return err
	}
	err := g.Probe(ctx, group, IPv4)
	return errors.Join(err, os.Remove(group))
}
