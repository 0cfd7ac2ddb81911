//go:build e2e

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Images of jobs, as machines pull them.
const (
	// Busybox has a shell and the usual tools.
	Busybox = Registry + "/busybox:2"
	// Distroless has one static program and nothing else: no shell, no users.
	Distroless = Registry + "/distroless:2"
	// Debian has bash, the usual tools, rsync and OpenSSH's programs.
	Debian = Registry + "/debian:1"
	// Private is Busybox behind a password.
	Private = PrivateRegistry + "/busybox:2"
	// Big takes a moment to pull.
	Big = Registry + "/big:1"
	// Missing does not exist.
	Missing = Registry + "/nothing:1"
)

// registryLine is RegistryUser with the bcrypt hash of RegistryPassword.
const registryLine = "robot:$2b$05$35QdwvnVeDw62HWj1.gXUO5aakq5QpfxUxL704/ll1oV/A1ul8M4q\n"

// debianScript takes packages as they are on this machine, with the libraries
// that their programs want.
const debianScript = `mkdir -p etc tmp root run proc dev usr/bin usr/sbin usr/lib usr/lib64 home/worker && chmod 1777 tmp &&
	for d in bin sbin lib lib64; do ln -s usr/$d $d; done &&
	for p in base-files bash dash coreutils grep sed mawk findutils tar gzip procps util-linux libc-bin rsync openssh-client openssh-server openssh-sftp-server; do
		dpkg -L $p; done | grep -Ev '^/(usr/share/(doc|man|locale|info|lintian)|etc/(ssh|init.d|pam.d|default|ufw)|lib/systemd|var)(/|$)' |
		while read -r f; do [ -f "$f" ] && echo "$f"; done | sort -u | tar -C / --no-recursion -c -T - | tar -x --keep-directory-symlink &&
	cp /bin/busybox bin/busybox && cp /etc/profile etc/ &&
	find usr/bin usr/sbin usr/lib/openssh -type f -perm -u+x -exec ldd {} + 2>/dev/null | grep -o '/[^ ]*' | grep -v ':$' | sort -u |
		while read -r f; do mkdir -p ".$(dirname "$f")" && cp -L "$f" ".$f"; done &&
	printf 'root:x:0:0:root:/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nworker:x:1234:1234::/home/worker:/bin/bash\n' >etc/passwd &&
	printf 'root:x:0:\nworker:x:1234:\nextra:x:1300:worker\n' >etc/group && chown 1234:1234 home/worker`

func (l *Lab) makeJobImages(ctx context.Context) error {
	for image, script := range map[string]string{
		Busybox: `mkdir -p bin etc tmp root && chmod 1777 tmp && cp /bin/busybox bin/busybox &&
			for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "bin/$applet"; done &&
			printf 'root:x:0:0:root:/root:/bin/sh\nworker:x:1234:1234::/home/worker:/bin/sh\n' >etc/passwd &&
			printf 'root:x:0:\nworker:x:1234:\n' >etc/group && mkdir -p home/worker && chown 1234:1234 home/worker`,
		Debian:     debianScript,
		Distroless: `cp /bin/busybox busybox`,
		Big: `mkdir -p bin etc tmp && cp /bin/busybox bin/busybox && ln -s busybox bin/sh && ln -s busybox bin/sleep && ln -s busybox bin/seq &&
			head -c 200000000 /dev/urandom >ballast`,
	} {
		if _, err := l.Docker(ctx, "image", "inspect", image); err == nil {
			continue
		}
		root, err := os.MkdirTemp(l.dir, "image")
		if err != nil {
			return fmt.Errorf("make image folder: %w", err)
		}
		cmd := exec.CommandContext(ctx, "sh", "-c", script)
		cmd.Dir = root
		if _, err := output(cmd); err != nil {
			return fmt.Errorf("make image %s (apt-get install busybox-static): %w", image, err)
		}
		if err := l.importFolder(ctx, root, image); err != nil {
			return err
		}
	}
	_, err := l.Docker(ctx, "tag", Busybox, Private)
	return err
}

// Derive makes an image of the files below root on top of another image.
func (l *Lab) Derive(ctx context.Context, base, root, image string) error {
	id, err := l.Docker(ctx, "create", base, "true")
	if err != nil {
		return err
	}
	if _, err := l.Docker(ctx, "cp", root+"/.", id+":/"); err != nil {
		return err
	}
	if _, err := l.Docker(ctx, "commit", id, image); err != nil {
		return err
	}
	_, err = l.Docker(ctx, "rm", id)
	return err
}

func (l *Lab) startRegistries(ctx context.Context) error {
	htpasswd := filepath.Join(l.dir, "htpasswd")
	if err := os.WriteFile(htpasswd, []byte(registryLine), 0o600); err != nil {
		return fmt.Errorf("write htpasswd: %w", err)
	}
	for address, auth := range map[string]string{
		Registry:        "",
		PrivateRegistry: "auth: {htpasswd: {realm: lab, path: " + htpasswd + "}}\n",
	} {
		conf := filepath.Join(l.dir, "registry-"+address+".yml")
		text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n%s",
			filepath.Join(Home, "registry-"+address), address, auth)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write registry configuration: %w", err)
		}
		cmd := exec.Command("docker-registry", "serve", conf)
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start registry (apt-get install docker-registry): %w", err)
		}
		l.registries = append(l.registries, cmd)
	}
	push := func(image string) error {
		return Wait(ctx, 20*time.Second, "push of "+image, func(ctx context.Context) error {
			_, err := l.Docker(ctx, "push", image)
			return err
		})
	}
	for _, image := range []string{Busybox, Debian, Distroless, Big} {
		if err := push(image); err != nil {
			return err
		}
	}
	err := Wait(ctx, 20*time.Second, "login to the private registry", func(ctx context.Context) error {
		_, err := l.Docker(ctx, "--config", filepath.Join(l.dir, "config"), "login", "-u", RegistryUser, "-p", RegistryPassword, PrivateRegistry)
		return err
	})
	if err != nil {
		return err
	}
	_, err = l.Docker(ctx, "--config", filepath.Join(l.dir, "config"), "push", Private)
	return err
}
