//go:build e2e

package e2ecloud

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dstack/cloudinit"
	"dstack/controller/backends"
	"dstack/controller/backends/aws"
	"dstack/protocol/config"
	"dstack/test/cloudlab"
	"dstack/test/lab"
)

var errNotYet = errors.New("not yet")

// TestMachine is what a machine with our user-data is like before dstack
// connects: nothing but the driver of aws and OpenSSH's client take part.
func TestMachine(t *testing.T) {
	ctx := t.Context()
	account := account(t)
	pub, key := newKey(t)
	hostPub, hostKey := newKey(t)
	userData, err := cloudinit.UserData(cloudinit.Machine{
		User: "ubuntu", AuthorizedKeys: []string{pub}, HostKey: string(hostKey), HostKeyPublic: hostPub, Pull: []string{lab.Busybox},
	})
	if err != nil {
		t.Fatal(err)
	}
	spec := backends.MachineSpec{
		Token: "machine-test", Name: "machine-test", Region: cloudlab.Region, Type: "c5.large", DiskGB: 30, UserData: userData, Spot: true,
		Tags: map[string]string{backends.TagServer: "machine-test", backends.TagProject: "main"},
	}
	started := time.Now()
	made, err := account.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	if made.Address != "" || made.State != backends.MachinePending {
		t.Errorf("just made: %+v", made)
	}
	m := waitMachine(t, account, made.Ref, backends.MachineRunning)
	t.Logf("the address is known after %s", time.Since(started))
	login := newLogin(t, m.Address, key, hostPub)
	login.wait(t)
	t.Logf("it takes logins after %s; user-data has %d bytes", time.Since(started), len(userData))
	t.Logf("prepared after %s: %s", time.Since(started), login.must(t, "cloud-init status --wait --long"))
	host := shared.cloud.Machines()[0].Host

	t.Run("schema", func(t *testing.T) {
		if out := login.must(t, "sudo cloud-init schema --system"); !strings.Contains(out, "Valid") {
			t.Errorf("cloud-init says %s", out)
		}
	})
	t.Run("docker", func(t *testing.T) {
		// A second start would end jobs if Docker ran without our settings before.
		if out := login.must(t, "sudo journalctl -u docker | grep -c 'Starting up'"); out != "1" {
			t.Errorf("Docker was started %s times", out)
		}
		if out := login.must(t, "sudo journalctl -u ssh | grep -c 'Server listening on 0.0.0.0'"); out != "1" {
			t.Errorf("sshd was started %s times", out)
		}
		if out := login.must(t, "sudo docker info --format '{{.LiveRestoreEnabled}}'"); out != "true" {
			t.Errorf("live-restore: %s", out)
		}
		if out := login.must(t, "sudo docker images --format '{{.Repository}}:{{.Tag}}'"); out != lab.Busybox {
			t.Errorf("images: %q", out)
		}
	})
	t.Run("the host key is ours alone", func(t *testing.T) {
		if out := login.must(t, "ls /etc/ssh/ssh_host_*"); strings.TrimSpace(out) != "/etc/ssh/ssh_host_ed25519_key\n/etc/ssh/ssh_host_ed25519_key.pub" {
			t.Errorf("host keys: %s", out)
		}
		if out := login.must(t, "sudo sshd -T | grep -i '^passwordauthentication'"); out != "passwordauthentication no" {
			t.Errorf("got %s", out)
		}
	})
	t.Run("metadata", func(t *testing.T) { metadata(t, login, made.ID) })
	t.Run("volume", func(t *testing.T) { volume(t, account, login, m.Ref) })
	t.Run("reboot", func(t *testing.T) {
		login.must(t, "sudo docker run -d --restart unless-stopped --name keeps "+lab.Busybox+" sleep 1000")
		if err := host.Reboot(ctx); err != nil {
			t.Fatal(err)
		}
		login.wait(t)
		if err := lab.Wait(ctx, 20*time.Second, "Docker after a reboot", func(context.Context) error {
			out, err := login.run("sudo docker ps --format '{{.Names}}'")
			if err == nil && out != "keeps" {
				return errNotYet
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("interruption", func(t *testing.T) {
		if err := shared.cloud.Interrupt(made.ID, time.Second); err != nil {
			t.Fatal(err)
		}
		if m := waitMachine(t, account, made.Ref, backends.MachineGone); !m.Interrupted {
			t.Errorf("the machine is %+v", m)
		}
	})
	if err := account.Delete(ctx, made.Ref); err != nil {
		t.Errorf("delete what is gone: %v", err)
	}
}

func metadata(t *testing.T, login login, id string) {
	t.Helper()
	const base = "http://169.254.169.254/latest/"
	if out := login.must(t, "curl -s -o /dev/null -w '%{http_code}' "+base+"meta-data/instance-id"); out != "401" {
		t.Errorf("without a token: %s", out)
	}
	token := "$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' " + base + "api/token)"
	if out := login.must(t, "curl -s -H \"X-aws-ec2-metadata-token: "+token+"\" "+base+"meta-data/instance-id"); out != id {
		t.Errorf("instance-id: %s", out)
	}
	if out := login.must(t, "curl -s -o /dev/null -w '%{http_code}' -H \"X-aws-ec2-metadata-token: "+token+"\" "+base+"meta-data/spot/instance-action"); out != "404" {
		t.Errorf("before the notice: %s", out)
	}
	// A container is a second hop, and the token passes one.
	inside := func(request string) string {
		return login.must(t, "sudo docker run --rm "+lab.Busybox+` sh -c "printf '`+request+`\r\n\r\n' | timeout 2 nc 169.254.169.254 80; true"`)
	}
	if out := inside(`GET /latest/meta-data/instance-id HTTP/1.0`); !strings.Contains(out, "401") {
		t.Errorf("a container does not reach the address at all: %s", out)
	}
	if out := inside(`PUT /latest/api/token HTTP/1.0\r\nX-aws-ec2-metadata-token-ttl-seconds: 60`); out != "" {
		t.Errorf("a container got a token: %s", out)
	}
}

func volume(t *testing.T, account backends.Backend, login login, machine backends.Ref) {
	t.Helper()
	ctx := t.Context()
	disks := account.(backends.Volumes)
	v, err := disks.CreateVolume(ctx, backends.VolumeSpec{Token: "volume-test", Name: "v", Region: cloudlab.Region, SizeGB: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"sudo mkfs.ext4 -q %[1]s && sudo mount %[1]s /mnt && echo kept | sudo tee /mnt/file", "sudo mount %[1]s /mnt && cat /mnt/file"} {
		device, err := disks.AttachVolume(ctx, v.VolumeRef, machine)
		if err != nil {
			t.Fatal(err)
		}
		if out := login.must(t, fmt.Sprintf(step, device)); out != "kept" {
			t.Errorf("the volume has %q", out)
		}
		if err := disks.DetachVolume(ctx, v.VolumeRef, machine, false); err != nil {
			t.Fatal(err)
		}
		if got, err := disks.DescribeVolume(ctx, v.VolumeRef); err != nil || len(got.Attached) != 1 {
			t.Errorf("detached while it is mounted: %+v, %v", got, err)
		}
		login.must(t, "sudo umount /mnt")
		if got, err := disks.DescribeVolume(ctx, v.VolumeRef); err != nil || len(got.Attached) != 0 {
			t.Errorf("not detached: %+v, %v", got, err)
		}
	}
	if err := disks.DeleteVolume(ctx, v.VolumeRef); err != nil {
		t.Error(err)
	}
}

// account is the cloud as the driver of aws sees it.
func account(t *testing.T) backends.Backend {
	t.Helper()
	t.Setenv("AWS_ENDPOINT_URL", shared.cloud.URL)
	b, err := aws.Driver{}.Open(t.Context(), config.Backend{Config: &config.AWSBackend{
		Creds: &config.AWSCreds{Type: config.CredsAccessKey, AccessKey: "lab", SecretKey: "lab"}, Regions: []string{cloudlab.Region},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func waitMachine(t *testing.T, account backends.Backend, ref backends.Ref, want backends.MachineState) backends.Machine {
	t.Helper()
	var m backends.Machine
	if err := lab.Wait(t.Context(), 30*time.Second, "machine that is "+string(want), func(ctx context.Context) (err error) {
		if m, err = account.Describe(ctx, ref); err == nil && m.State != want {
			err = fmt.Errorf("it is %s: %w", m.State, errNotYet)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

// newKey makes a key: public in authorized_keys format, private as OpenSSH PEM.
func newKey(t *testing.T) (string, []byte) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), pem.EncodeToMemory(block)
}

// login is ubuntu on a machine with one host key that is right.
type login struct{ args []string }

func newLogin(t *testing.T, ip string, key []byte, hostKey string) login {
	t.Helper()
	dir := t.TempDir()
	file, known := filepath.Join(dir, "key"), filepath.Join(dir, "known")
	if err := errors.Join(os.WriteFile(file, key, 0o600), os.WriteFile(known, []byte(ip+" "+hostKey+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return login{[]string{"-i", file, "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + known, "-o", "BatchMode=yes",
		"-o", "ConnectTimeout=2", "-o", "LogLevel=ERROR", "ubuntu@" + ip}}
}

func (l login) run(command string) (string, error) {
	out, err := exec.Command("ssh", append(l.args, command)...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

func (l login) must(t *testing.T, command string) string {
	t.Helper()
	out, err := l.run(command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return out
}

func (l login) wait(t *testing.T) {
	t.Helper()
	if err := lab.Wait(t.Context(), 30*time.Second, "login", func(context.Context) error {
		_, err := l.run("true")
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
