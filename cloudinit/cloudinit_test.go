package cloudinit_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"dstack/cloudinit"
)

const hostKey = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"

func machine() cloudinit.Machine {
	return cloudinit.Machine{
		User: "ubuntu", AuthorizedKeys: []string{"ssh-ed25519 AAAAproject dstack"},
		HostKey: hostKey, HostKeyPublic: "ssh-ed25519 AAAAhost",
	}
}

func TestUserData(t *testing.T) {
	m := machine()
	m.NVIDIA = true
	m.Pull = []string{"dstackai/base:0.16", "odd name; rm -rf /"}
	m.Shim = &cloudinit.Download{URL: "https://example.com/shim", SHA256: "abc"}
	m.Commands = []string{"echo 'first'"}
	text, err := cloudinit.UserData(m)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text, "#cloud-config\n") || len(text) > cloudinit.MaxSize {
		t.Errorf("%d bytes: %s", len(text), text)
	}
	var got struct {
		SSHKeys map[string]string `yaml:"ssh_keys"`
		Users   []any             `yaml:"users"`
		RunCmd  [][]string        `yaml:"runcmd"`
		BootCmd [][]string        `yaml:"bootcmd"`
		Files   []struct {
			Path, Content string
		} `yaml:"write_files"`
	}
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.SSHKeys["ed25519_private"] != hostKey {
		t.Errorf("host key is %q", got.SSHKeys["ed25519_private"])
	}
	last := got.RunCmd[len(got.RunCmd)-1]
	want := "/usr/local/sbin/dstack-prepare --nvidia --shim https://example.com/shim abc --pull dstackai/base:0.16 --pull odd name; rm -rf /"
	if strings.Join(last, " ") != want || last[len(last)-1] != "odd name; rm -rf /" {
		t.Errorf("runs %q", last)
	}
	if got.RunCmd[0][2] != "echo 'first'" {
		t.Errorf("runs first %q", got.RunCmd[0])
	}
	if boot := got.BootCmd[0]; !strings.HasPrefix(boot[3], "#!/usr/bin/env python3\n") || boot[4] != "--nvidia" {
		t.Errorf("at boot %q", boot)
	}
	if len(got.Files) != 2 || !strings.HasPrefix(got.Files[0].Content, "#!/bin/sh\n") {
		t.Errorf("files: %+v", got.Files)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*cloudinit.Machine)
		want   string
	}{
		"a key with a second line": {func(m *cloudinit.Machine) { m.AuthorizedKeys = []string{"ssh-ed25519 A\nssh-ed25519 B"} }, "is not one public key"},
		"no key":                   {func(m *cloudinit.Machine) { m.AuthorizedKeys = []string{""} }, "is not one public key"},
		"no user":                  {func(m *cloudinit.Machine) { m.User = "" }, "is no name of a login"},
		"a user with a blank":      {func(m *cloudinit.Machine) { m.User = "a b" }, "is no name of a login"},
		"no host key":              {func(m *cloudinit.Machine) { m.HostKey = "" }, "is no private key"},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine()
			c.change(&m)
			if _, err := cloudinit.UserData(m); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	m := machine()
	for range 300 {
		m.AuthorizedKeys = append(m.AuthorizedKeys, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMoreThanEnoughOfThisKeyIsHere someone@somewhere")
	}
	if _, err := cloudinit.UserData(m); !errors.Is(err, cloudinit.ErrTooLarge) {
		t.Errorf("too many keys: %v", err)
	}
}

// TestScript runs the script's syntax through a real shell; what it does is
// seen on a machine in test/e2e.
func TestScript(t *testing.T) {
	text, err := cloudinit.UserData(machine())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Files []struct{ Content string } `yaml:"write_files"`
	}
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(got.Files[0].Content)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
