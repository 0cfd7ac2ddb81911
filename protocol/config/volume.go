package config

// Volume is `type: volume` (spec: configuration.md 9). Which fields there are
// depends on the backend; on the wire the others are left out.
type Volume struct {
	Type    string  `json:"type"`
	Backend string  `json:"backend"`
	Name    *string `json:"name"`
	// AutoCleanupDuration is seconds; nil, zero and negative keep the volume.
	AutoCleanupDuration *int              `json:"auto_cleanup_duration"`
	Tags                map[string]string `json:"tags"`

	// Size is in GB.
	Size             *float64 `json:"size"`
	VolumeID         *string  `json:"volume_id"`
	Region           string   `json:"region"`
	AvailabilityZone *string  `json:"availability_zone"`

	// The rest is of Kubernetes.
	ClaimName        *string  `json:"claim_name"`
	StorageClassName *string  `json:"storage_class_name"`
	AccessModes      []string `json:"access_modes"`
	ReadOnly         bool     `json:"read_only"`
}

// ExternalID is the id of a volume that exists already, or nil.
func (v Volume) ExternalID() *string {
	if v.ClaimName != nil {
		return v.ClaimName
	}
	return v.VolumeID
}

// HasSize says whether volumes of the backend have a size: then a new one needs it.
func (v Volume) HasSize() bool {
	_, ok := volumeFields[v.Backend]
	return ok && v.Backend != "daytona" && v.Backend != "lium"
}

// volumeFields are the backends with volumes, each with its own fields in the
// order of the wire.
var volumeFields = map[string][]string{
	"aws":        {"size", "volume_id", "region", "availability_zone"},
	"gcp":        {"size", "volume_id", "region", "availability_zone"},
	"runpod":     {"size", "volume_id", "region"},
	"kubernetes": {"size", "region", "claim_name", "storage_class_name", "access_modes", "read_only"},
	"daytona":    {"volume_id"},
	"lium":       {"volume_id"},
	// The cloud of tests can be stored, but not configured.
	"dstack": {"size", "volume_id", "region", "availability_zone"},
}
