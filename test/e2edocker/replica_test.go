//go:build e2e

package e2edocker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dstack/test/lab"
)

// storage is where moto's S3 is, as containers see it.
const storage = lab.Gateway + ":5002"

// TestReplica stops a server right after a change: the change is in the replica,
// from which the one that waited goes on, in a new volume.
func TestReplica(t *testing.T) {
	t.Parallel()
	startStorage(t)
	options := "-e LITESTREAM_REPLICA_URL=s3://bucket/server -e AWS_ENDPOINT_URL_S3=http://" + storage +
		" -e AWS_ACCESS_KEY_ID=id -e AWS_SECRET_ACCESS_KEY=secret -e AWS_REGION=us-east-1" +
		" -e DSTACK_SERVER_ENCRYPTION_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= " + image
	serve(t, "one", options)
	await(t, "docker logs one", "is running at")
	serve(t, "two", options)
	await(t, "docker logs two", "waiting for it")
	serve(t, "three", options)
	await(t, "docker logs three", "waiting for it")
	// 137 is that of a program that had to be killed.
	if code := sh(t, "docker stop three >/dev/null && docker inspect -f '{{.State.ExitCode}}' three"); code != "143" {
		t.Errorf("the server that waited ended with exit code %s", code)
	}
	sh(t, "docker exec one dstack secret set late word")
	if code := sh(t, "docker stop one >/dev/null && docker inspect -f '{{.State.ExitCode}}' one"); code != "0" {
		t.Errorf("the server that was stopped ended with exit code %s", code)
	}
	await(t, "docker logs two", "is running at")
	if got := sh(t, "docker exec two dstack secret get late"); !strings.Contains(got, "word") {
		t.Errorf("the secret is %q", got)
	}
}

// startStorage starts moto's S3 with a bucket.
func startStorage(t *testing.T) {
	t.Helper()
	host, port, _ := strings.Cut(storage, ":")
	cmd := exec.Command(filepath.Join(lab.Home, "moto", "bin", "moto_server"), "-H", host, "-p", port)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start moto (test/ci/python.sh): %v", err)
	}
	t.Cleanup(func() {
		var exit *exec.ExitError
		if err := errors.Join(cmd.Process.Kill(), cmd.Wait()); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
	})
	err := lab.Wait(t.Context(), time.Minute, "moto's S3", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+storage+"/bucket", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return fmt.Errorf("make bucket: %w", err)
		}
		return response.Body.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}
