package cli

import (
	"slices"

	"dstack/protocol/api"
)

// sweep has two machines: one is being ended, one is left alone until it is
// confirmed, by a server that remembers nothing; and a volume.
func (*fakeServer) sweep(req api.SweepRequest) api.SweepReport {
	price, why, trouble := 0.17, "more such machines were found than are ended without asking", "aws us-east-1: too many requests"
	made := api.At(fakeStart)
	held := api.StrayMachine{
		ID: "s-1", ProjectName: fakeProject, Backend: "aws", Region: "us-east-1", InstanceID: "i-1", InstanceType: "c5.xlarge",
		Price: &price, CreatedAt: &made, Held: &why,
	}
	ended := api.StrayMachine{ID: "s-2", ProjectName: fakeProject, Backend: "aws", Region: "us-east-1", InstanceID: "i-2", InstanceType: "t3.small", Spot: true, Trouble: &trouble}
	if slices.Contains(req.Confirm, held.ID) {
		held.Held = nil
	}
	monthly, data := 8.0/730, "it has data that somebody may need"
	volume := api.StrayMachine{
		ID: "s-3", Kind: "volume", ProjectName: fakeProject, Backend: "aws", Region: "us-east-1", InstanceID: "vol-1", InstanceType: "volume 100 GB",
		Price: &monthly, CreatedAt: &made, Held: &data,
	}
	if slices.Contains(req.ConfirmVolumes, volume.ID) {
		volume.Held = nil
	}
	return api.SweepReport{Machines: []api.StrayMachine{held, ended, volume}, Missing: []string{"Project p: aws: the credentials are wrong"}}
}
