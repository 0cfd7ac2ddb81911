package client

import (
	"context"

	"dstack/protocol/api"
)

// ListVolumes gives the project's volumes.
func (p *Project) ListVolumes(ctx context.Context) ([]api.Volume, error) {
	return call[[]api.Volume](ctx, p.Client, read(p.path("volumes/list")), nil)
}

// GetVolume gives the volume of that name; see [IsNotExist].
func (p *Project) GetVolume(ctx context.Context, name string) (api.Volume, error) {
	return call[api.Volume](ctx, p.Client, read(p.path("volumes/get")), api.GetVolumeRequest{Name: name})
}

// CreateVolume creates a volume. It is not repeated after a lost answer: one
// without a name would be created twice.
func (p *Project) CreateVolume(ctx context.Context, req api.CreateVolumeRequest) (api.Volume, error) {
	return call[api.Volume](ctx, p.Client, write(p.path("volumes/create")), req)
}

// DeleteVolumes starts the deletion of volumes.
func (p *Project) DeleteVolumes(ctx context.Context, names []string) error {
	return p.do(ctx, read(p.path("volumes/delete")), api.DeleteVolumesRequest{Names: names})
}
