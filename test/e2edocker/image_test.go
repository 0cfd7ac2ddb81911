//go:build e2e

package e2edocker

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// TestImage looks at the image as the engine's own builder made it, and as
// BuildKit does, both without network. The program of the other processor is
// not run; it is a stand-in unless E2E_LONG is set.
func TestImage(t *testing.T) {
	const most = 80_000_000
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	sh(t, offline)
	t.Cleanup(func() { after(t, online) })
	program := "bin/dstack-linux-" + other
	sh(t, "echo stand-in >"+folder+"/"+program)
	if os.Getenv("E2E_LONG") != "" {
		if err := shared.engine.Copy(t.Context(), root(), folder, program); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, build("", "with-buildkit")+" && "+build("--platform linux/"+other, "for-the-other"))
	for name, arch := range map[string]string{image: runtime.GOARCH, "with-buildkit": runtime.GOARCH, "for-the-other": other} {
		got := strings.Fields(sh(t, "docker image inspect -f '{{.Size}} {{.Os}}/{{.Architecture}} {{json .Config.Labels}} {{json .Config.Healthcheck.Test}}' "+name))
		if len(got) < 4 || got[1] != "linux/"+arch {
			t.Fatalf("%s is %v, want linux/%s", name, got, arch)
		}
		if size, err := strconv.Atoi(got[0]); err != nil || size > most {
			t.Errorf("%s has %s bytes, want %d at most", name, got[0], most)
		}
		if rest := strings.Join(got[2:], " "); !strings.Contains(rest, `"org.opencontainers.image.licenses":"Apache-2.0"`) || !strings.Contains(rest, `"health"]`) {
			t.Errorf("%s has the labels and the health check %s", name, rest)
		}
	}
	if got := sh(t, "docker image inspect -f '{{.Config.Env}}' "+image); !strings.Contains(got, "DSTACK_SERVER_WAIT_FOR_LEASE=1") || !strings.Contains(got, "DSTACK_SERVER_DIR=/root/.dstack/server") {
		t.Errorf("the variables are %s", got)
	}
	if got := sh(t, "docker run --rm with-buildkit version"); !strings.Contains(got, "compatible with dstack 0.22.5") {
		t.Errorf("the program says %q", got)
	}
}

// TestRefusals starts servers that can't work: one sentence, exit code 1.
func TestRefusals(t *testing.T) {
	serve(t, "first", "-p 3000:3000 -v used:/root/.dstack/server "+image)
	await(t, "docker logs first", "is running at")
	sh(t, "install -d -m 755 /root/roots")
	tests := map[string]struct{ options, want string }{
		"port taken":             {"--network host -e DSTACK_SERVER_PORT=3000", "port 3000 on 0.0.0.0 is in use: "},
		"read-only volume":       {"-v only:/root/.dstack/server:ro", "not writable ("},
		"folder of another user": {"--user 1234:1234 -v /root/roots:/root/.dstack/server", "not writable ("},
		"volume of another user": {"--user 1234:1234 -v used:/root/.dstack/server", "permission denied"},
		"full disk":              {"--tmpfs /root/.dstack/server:size=100k,mode=1777", "the disk is full ("},
		"unknown replica":        {"-e LITESTREAM_REPLICA_URL=ftp://a/b", "LITESTREAM_REPLICA_URL: "},
	}
	t.Run("each", func(t *testing.T) {
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				out := sh(t, "out=$(docker run --rm "+tt.options+" "+image+" 2>&1); echo exit=$?; echo \"$out\"")
				code, text, _ := strings.Cut(out, "\n")
				if code != "exit=1" || !strings.Contains(text, tt.want) || strings.Contains(text, "\n") {
					t.Errorf("%s\n%s\nwant one sentence with %q", code, text, tt.want)
				}
			})
		}
	})
	if left := sh(t, "ls -A /root/roots"); left != "" {
		t.Errorf("a server that did not start left %q", left)
	}
}

// TestCompose starts the server of deploy/compose.yml with docker-compose on
// the engine of the machine.
func TestCompose(t *testing.T) {
	socket, err := shared.engine.Path(t.Context(), "/run/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root(), "deploy", "compose.yml")
	compose := func(ctx context.Context, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, "docker-compose", append([]string{"-p", "try", "-f", file}, args...)...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "DSTACK_SERVER_ADMIN_TOKEN=of-the-shell")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker-compose (apt-get install docker-compose): %v\n%s", err, out)
		}
		return string(out)
	}
	compose(t.Context(), "config", "-q")
	t.Cleanup(func() { compose(context.WithoutCancel(t.Context()), "down", "-v") })
	compose(t.Context(), "up", "-d")
	id := strings.TrimSpace(compose(t.Context(), "ps", "-q", "dstack"))
	await(t, "docker logs "+id, "The admin user token is 'of-the-shell'")
}
