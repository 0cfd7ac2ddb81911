package jobspec

import (
	"cmp"
	"strings"

	"dstack/protocol/api"
)

// DefaultPython is the version that a job without `image` and `python` gets.
// 0.22.5 takes the version that its own server happens to run on.
const DefaultPython = "3.12"

// Options are the server's settings that shape jobs. The zero value of a
// field means its default, except where it says otherwise.
type Options struct {
	// BaseImage, BaseVersion, BaseUbuntu and DindImage name the images of
	// jobs without `image` (DSTACK_DOCKER_BASE_IMAGE, _VERSION,
	// _UBUNTU_VERSION, DSTACK_DIND_IMAGE).
	BaseImage, BaseVersion, BaseUbuntu, DindImage string
	// Registry prefixes images without a registry; RegistryUsername and
	// RegistryPassword log in there if a job has no registry_auth
	// (DSTACK_SERVER_DEFAULT_DOCKER_REGISTRY, _USERNAME, _PASSWORD).
	Registry, RegistryUsername, RegistryPassword string
	// NetworkMode is DSTACK_SERVER_JOB_NETWORK_MODE; 0 means 2.
	NetworkMode int
	// LogQuotaHour is DSTACK_SERVER_LOG_QUOTA_PER_JOB_HOUR in bytes; 0 means
	// no quota.
	LogQuotaHour int64
	// PullStall is after how many seconds without progress a pull fails;
	// 0 means 300.
	PullStall int
	// OnlyProxy keeps the keys of users off hosts and jobs: they come through
	// the SSH proxy (DSTACK_SERVER_SSHPROXY_ENFORCED).
	OnlyProxy bool
}

// Values of Options.NetworkMode.
const (
	hostForMultinode = 1
	hostWhenWhole    = 2
	alwaysBridge     = 3
)

func (o Options) base(kind string) string {
	return cmp.Or(o.BaseImage, "dstackai/base") + ":" + cmp.Or(o.BaseVersion, "0.16") + "-" + kind + "-ubuntu" + cmp.Or(o.BaseUbuntu, "24.04")
}

func (o Options) dind() string { return cmp.Or(o.DindImage, "dstackai/dind") }

// withRegistry adds the server's default registry to an image without one.
func (o Options) withRegistry(image string) (string, bool) {
	first, _, nested := strings.Cut(image, "/")
	if o.Registry == "" || nested && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return image, false
	}
	return strings.TrimSuffix(o.Registry, "/") + "/" + image, true
}

// PublicImage is the image of a job as its machine fetches it, and whether
// that takes neither a password nor the value of a secret.
func (o Options) PublicImage(job api.JobSpec) (string, bool) {
	image, ours := o.withRegistry(job.ImageName)
	login := job.RegistryAuth != nil || ours && o.RegistryUsername+o.RegistryPassword != ""
	return image, !login && !strings.Contains(image, "${{")
}
