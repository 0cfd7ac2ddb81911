//go:build e2e

package cloudlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// volume is an EBS volume: a sparse file on a loop device. What it does not
// show: serial numbers, so the shim finds it by the name that AWS gave to it;
// and a machine that keeps it mounted after a forced detachment goes on
// writing, which on AWS fails.
type volume struct {
	id, file string
	// loop is the device on this machine, machine where it is attached as
	// device; all are empty if it is not.
	loop, device string
	machine      *Machine
}

// attachment is what moto's hook says of a volume.
type attachment struct {
	Volume  string `json:"volume"`
	Machine string `json:"machine"`
	Device  string `json:"device"`
	Size    int64  `json:"size"`
	Force   bool   `json:"force"`
}

func (c *Cloud) attach(ctx context.Context, a attachment) error {
	m, err := c.machine(a.Machine)
	if err != nil {
		return err
	}
	c.mu.Lock()
	v := c.volumes[a.Volume]
	if v == nil {
		v = &volume{id: a.Volume, file: filepath.Join(c.dir, a.Volume)}
		c.volumes[a.Volume] = v
	}
	c.mu.Unlock()
	file, err := os.OpenFile(v.file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	if err := file.Truncate(a.Size << 30); err != nil {
		return fmt.Errorf("size volume: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("close volume: %w", err)
	}
	loop, err := exec.CommandContext(ctx, "losetup", "--find", "--show", v.file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("losetup: %w: %s", err, loop)
	}
	c.mu.Lock()
	v.loop, v.device, v.machine = strings.TrimSpace(string(loop)), a.Device, m
	c.mu.Unlock()
	return v.show(ctx)
}

// show makes the device on the machine.
func (v *volume) show(ctx context.Context) error {
	var st unix.Stat_t
	if err := unix.Stat(v.loop, &st); err != nil {
		return fmt.Errorf("look at %s: %w", v.loop, err)
	}
	_, err := v.machine.Host.Exec(ctx, fmt.Sprintf("rm -f %[1]s && mknod -m 660 %[1]s b %d %d", v.device, unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	return err
}

// asked answers a request to detach: a machine that has the volume mounted
// keeps it, unless it is forced.
func (c *Cloud) asked(ctx context.Context, a attachment) (any, error) {
	c.mu.Lock()
	v := c.volumes[a.Volume]
	c.mu.Unlock()
	if v == nil || v.machine == nil {
		return map[string]bool{"busy": false}, nil
	}
	if !a.Force {
		mounts, err := v.machine.Host.Exec(ctx, "cat /proc/mounts")
		if err == nil && (strings.Contains(mounts, v.loop+" ") || strings.Contains(mounts, v.device+" ")) {
			return map[string]bool{"busy": true}, nil
		}
	}
	return map[string]bool{"busy": false}, c.detach(ctx, v, a.Force)
}

func (c *Cloud) detach(ctx context.Context, v *volume, force bool) error {
	// A machine that does not answer has no device to remove.
	if _, err := v.machine.Host.Exec(ctx, "rm -f "+v.device); err != nil && !force {
		return err
	}
	if err := v.release(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v.machine, v.device = nil, ""
	return nil
}

// release gives the loop device back.
func (v *volume) release(ctx context.Context) error {
	if v.loop == "" {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "losetup", "--detach", v.loop).CombinedOutput(); err != nil {
		return fmt.Errorf("losetup: %w: %s", err, out)
	}
	v.loop = ""
	return nil
}

func (c *Cloud) deleteVolume(ctx context.Context, id string) error {
	c.mu.Lock()
	v := c.volumes[id]
	delete(c.volumes, id)
	c.mu.Unlock()
	if v == nil {
		return nil
	}
	if err := v.release(ctx); err != nil {
		return err
	}
	if err := os.Remove(v.file); err != nil {
		return fmt.Errorf("remove volume: %w", err)
	}
	return nil
}

func (c *Cloud) attachedTo(m *Machine) []*volume {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*volume
	for _, v := range c.volumes {
		if v.machine == m {
			out = append(out, v)
		}
	}
	return out
}
