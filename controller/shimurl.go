package controller

import (
	"strings"

	"dstack/cloudinit"
	"dstack/protocol/version"
)

// shimDownload says where machines with a CPU (x86, arm) get the shim from, by
// what DSTACK_SERVER_SHIM_URL says; nil if it says nothing. A machine takes it
// only with the digest of the shim in this build.
func shimDownload(pattern string, digest func(arch string) string) func(cpu string) *cloudinit.Download {
	if pattern == "" {
		return nil
	}
	return func(cpu string) *cloudinit.Download {
		arch := "amd64"
		if cpu == "arm" {
			arch = "arm64"
		}
		sum := digest(arch)
		if sum == "" {
			return nil
		}
		return &cloudinit.Download{URL: strings.NewReplacer("{arch}", arch, "{version}", version.Version).Replace(pattern), SHA256: sum}
	}
}
