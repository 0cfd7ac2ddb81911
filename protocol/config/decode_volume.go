package config

import (
	"maps"
	"slices"

	"dstack/protocol/internal/decode"
)

// volumeBackends are the backends with volumes in the order of 0.22.5.
var volumeBackends = []string{"aws", "gcp", "runpod", "kubernetes", "daytona", "lium"}

// ReadVolume reads `type: volume` (spec: configuration.md 9). The backend says
// which fields there are.
func ReadVolume(v decode.Value) Volume {
	backend, o := decode.Variant(v, "backend", volumeBackends...)
	if backend == "" {
		return Volume{}
	}
	defer o.Done()
	readOwnType(o, TypeVolume)
	w := Volume{
		Type: TypeVolume, Backend: backend,
		Name:                decode.Field(o, "name", decode.Optional(decode.Text)),
		AutoCleanupDuration: decode.Field(o, "auto_cleanup_duration", readIdle),
		Tags:                decode.Field(o, "tags", readTags),
	}
	text := decode.Optional(decode.Text)
	own := map[string]func(){
		"size":               func() { w.Size = decode.Field(o, "size", decode.Optional(readMemory)) },
		"volume_id":          func() { w.VolumeID = decode.Field(o, "volume_id", text) },
		"region":             func() { w.Region = decode.Required(o, "region", decode.Text) },
		"availability_zone":  func() { w.AvailabilityZone = decode.Field(o, "availability_zone", text) },
		"claim_name":         func() { w.ClaimName = decode.Field(o, "claim_name", text) },
		"storage_class_name": func() { w.StorageClassName = decode.Field(o, "storage_class_name", text) },
		"access_modes": func() {
			w.AccessModes = decode.FieldOr(o, "access_modes", []string{"ReadWriteOnce"}, decode.ListOf(decode.Text))
		},
		"read_only": func() { w.ReadOnly = decode.Field(o, "read_only", decode.Boolean) },
	}
	switch backend {
	case "kubernetes":
		own["region"] = func() { w.Region = decode.Field(o, "region", decode.Text) }
	case "runpod": // takes a zone and drops it
		decode.Field(o, "availability_zone", text)
	}
	for _, field := range slices.Sorted(maps.Keys(own)) {
		if slices.Contains(volumeFields[backend], field) {
			own[field]()
		}
	}
	return w
}
