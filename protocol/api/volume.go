package api

import (
	"dstack/protocol/config"
	"dstack/protocol/internal/decode"
)

// VolumeStatus is the state of a volume (spec: rest-api.md 10).
type VolumeStatus string

// Volume statuses.
const (
	VolumeSubmitted    VolumeStatus = "submitted"
	VolumeProvisioning VolumeStatus = "provisioning"
	VolumeActive       VolumeStatus = "active"
	VolumeFailed       VolumeStatus = "failed"
)

// Volume is a network volume as clients see it. Cost is USD so far.
type Volume struct {
	ID               string                        `json:"id"`
	Name             string                        `json:"name"`
	User             string                        `json:"user"`
	ProjectName      string                        `json:"project_name"`
	Configuration    config.Volume                 `json:"configuration"`
	External         bool                          `json:"external"`
	CreatedAt        Time                          `json:"created_at"`
	LastProcessedAt  Time                          `json:"last_processed_at"`
	Status           VolumeStatus                  `json:"status"`
	StatusMessage    *string                       `json:"status_message"`
	Deleted          bool                          `json:"deleted"`
	DeletedAt        *Time                         `json:"deleted_at"`
	VolumeID         *string                       `json:"volume_id"`
	ProvisioningData *VolumeProvisioningData       `json:"provisioning_data"`
	Cost             float64                       `json:"cost"`
	Attachments      config.List[VolumeAttachment] `json:"attachments"`
	AttachmentData   *VolumeAttachmentData         `json:"attachment_data"`
}

// VolumeProvisioningData is what a backend made. Price is USD a month for the
// whole volume.
type VolumeProvisioningData struct {
	Backend          *string  `json:"backend"`
	VolumeID         string   `json:"volume_id"`
	SizeGB           *int     `json:"size_gb"`
	AvailabilityZone *string  `json:"availability_zone"`
	Price            *float64 `json:"price"`
	Attachable       bool     `json:"attachable"`
	Detachable       bool     `json:"detachable"`
	BackendData      *string  `json:"backend_data"`
}

// VolumeAttachment says which instance a volume is attached to, and how.
type VolumeAttachment struct {
	Instance       VolumeInstance        `json:"instance"`
	AttachmentData *VolumeAttachmentData `json:"attachment_data"`
}

// VolumeInstance is an instance that a volume is attached to.
type VolumeInstance struct {
	Name        string  `json:"name"`
	FleetName   *string `json:"fleet_name"`
	InstanceNum int     `json:"instance_num"`
	InstanceID  *string `json:"instance_id"`
}

// VolumeAttachmentData is how an instance sees a volume.
type VolumeAttachmentData struct {
	DeviceName *string `json:"device_name"`
}

// ListVolumesRequest is the body of volumes/list.
type ListVolumesRequest struct {
	ProjectName   *string `json:"project_name,omitempty"`
	OnlyActive    bool    `json:"only_active,omitempty"`
	PrevCreatedAt *Time   `json:"prev_created_at,omitempty"`
	PrevID        *string `json:"prev_id,omitempty" as:"uuid"`
	// Limit is 0..100, 100 if absent.
	Limit     *int `json:"limit,omitempty"`
	Ascending bool `json:"ascending,omitempty"`
}

func (r ListVolumesRequest) check(v decode.Value) { limit(v, "limit", r.Limit, 0, 100) }

// GetVolumeRequest names a volume of the project.
type GetVolumeRequest struct {
	Name string `json:"name"`
}

// CreateVolumeRequest creates a volume.
type CreateVolumeRequest struct {
	Configuration config.Volume `json:"configuration"`
}

// DeleteVolumesRequest names the volumes to delete.
type DeleteVolumesRequest struct {
	Names []string `json:"names"`
}
