package controller

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/cloudinit"
	"dstack/protocol/version"
)

func TestShimDownload(t *testing.T) {
	t.Parallel()
	sums := map[string]string{"amd64": "sum-a", "arm64": "sum-b"}
	digest := func(arch string) string { return sums[arch] }
	if shimDownload("", digest) != nil {
		t.Error("without a URL there is a download")
	}
	where := shimDownload("https://example.com/{version}/shim-{arch}", digest)
	for cpu, want := range map[string]*cloudinit.Download{
		"":    {URL: "https://example.com/" + version.Version + "/shim-amd64", SHA256: "sum-a"},
		"x86": {URL: "https://example.com/" + version.Version + "/shim-amd64", SHA256: "sum-a"},
		"arm": {URL: "https://example.com/" + version.Version + "/shim-arm64", SHA256: "sum-b"},
	} {
		if diff := cmp.Diff(want, where(cpu)); diff != "" {
			t.Errorf("%q: %s", cpu, diff)
		}
	}
	sums = nil // a bare build has no shim, so nobody knows its digest
	if got := where("x86"); got != nil {
		t.Errorf("unchecked: %+v", got)
	}
}

// TestShimURL: what is no URL stops the start.
func TestShimURL(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{"": true, "https://example.com/{arch}": true, "http://10.0.0.1/shim": true, "/srv/shim": false, "--version": false} {
		s, err := SettingsFrom(func(name string) string { return map[string]string{"DSTACK_SERVER_SHIM_URL": text}[name] }, "/home/x")
		if err == nil {
			err = s.Validate()
		}
		if good != (err == nil) || good && s.ShimURL != text || !good && !strings.Contains(err.Error(), "DSTACK_SERVER_SHIM_URL") {
			t.Errorf("%q: %q, %v", text, s.ShimURL, err)
		}
	}
}
