//go:build e2e

package e2ecloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/protocol/api"
	"dstack/test/cloudlab"
	"dstack/test/lab"
)

// TestVolumeKeepsData lets a task write to a volume and one on the next
// machine read it. The disks are loop devices, which have no serial number: the
// host finds them by name and size, as on machines of Xen.
func TestVolumeKeepsData(t *testing.T) {
	s := newServer(t)
	for name, text := range map[string]string{
		"fleet": elastic, "volume": "type: volume\nname: data\nbackend: aws\nregion: " + cloudlab.Region + "\nsize: 1GB\n",
	} {
		if out := apply(t, s, name, text); out.Exit != 0 {
			t.Fatalf("%+v", out)
		}
	}
	v := volumeOf(t, s)
	if v.Status != api.VolumeActive || v.VolumeID == nil || *v.ProvisioningData.Price == 0 {
		t.Fatalf("the volume is %+v", v)
	}
	const mount = "volumes: [\"data:/data\"]\n"
	writes := task("test ! -e /data/file", "mount | grep ' /data '", "echo kept > /data/file") + mount
	if out := apply(t, s, "writes", writes, "-n", "writes"); out.Exit != 0 {
		t.Fatalf("%+v", out)
	}
	empty(t, s)
	if v := volumeOf(t, s); len(v.Attachments) > 0 {
		t.Errorf("without a machine it is attached to %+v", v.Attachments)
	}
	out := apply(t, s, "reads", task("cat /data/file")+mount, "-n", "reads")
	if out.Exit != 0 || !strings.Contains(out.Stdout, "kept") {
		t.Errorf("%+v", out)
	}
	empty(t, s)
	text := timeline(events(t, s))
	// The next machine gets the first one's number if that is gone for the server, too.
	for what, times := range map[string]int{"Volume attached to cloud-": 2, "Volume detached from cloud-": 1} {
		if n := strings.Count(text, what); n < times {
			t.Errorf("%d events say %q", n, what)
		}
	}
	t.Logf("events\n%s", text)

	if out, err := s.CLI(t.Context(), s.Dir, "volume", "delete", "data", "-y"); err != nil || out.Exit != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	disks := account(t).(backends.Volumes)
	if err := lab.Wait(t.Context(), 20*time.Second, "end of the volume", func(ctx context.Context) error {
		_, err := disks.DescribeVolume(ctx, backends.VolumeRef{ID: *v.VolumeID, Region: cloudlab.Region})
		if err == nil {
			return fmt.Errorf("it is there: %w", errNotYet)
		}
		if errors.Is(err, backends.NotFound) {
			return nil
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// volumeOf is the volume of the test.
func volumeOf(t *testing.T, s *lab.Server) api.Volume {
	t.Helper()
	var v api.Volume
	if err := s.Call(t.Context(), "project/main/volumes/get", map[string]any{"name": "data"}, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
