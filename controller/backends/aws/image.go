package aws

import (
	"context"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

const (
	imageTTL    = time.Hour
	defaultUser = "ubuntu"
	canonical   = "099720109477"
	amazon      = "898082745236"
)

// image is a disk image with the name of its first disk.
type image struct {
	id, device string
	sizeGB     int32
}

// wanted says which image a machine gets.
func (a *Account) wanted(res api.Resources) (config.AWSImage, []string) {
	gpu := len(res.GPUs) > 0
	if own := a.ownImage(gpu); own != nil {
		field := "cpu"
		if gpu {
			field = "nvidia"
		}
		return *own, []string{"os_images", field, "name"}
	}
	switch {
	case gpu:
		return config.AWSImage{Name: "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *", Owner: amazon}, nil
	case arch(res) == types.ArchitectureTypeArm64:
		return config.AWSImage{Name: "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-*", Owner: canonical}, nil
	}
	return config.AWSImage{Name: "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*", Owner: canonical}, nil
}

func (a *Account) ownImage(gpu bool) *config.AWSImage {
	switch {
	case a.cfg.OSImages == nil:
		return nil
	case gpu:
		return a.cfg.OSImages.Nvidia
	}
	return a.cfg.OSImages.CPU
}

// user is who may log in on an instance.
func (a *Account) user(i types.Instance) string {
	if own := a.ownImage(gpuType(string(i.InstanceType))); own != nil && own.User != "" {
		return own.User
	}
	return defaultUser
}

// gpuType says whether machines of a type have NVIDIA GPUs: the families that
// are offered begin with g or p.
func gpuType(machineType string) bool {
	return strings.HasPrefix(machineType, "g") || strings.HasPrefix(machineType, "p")
}

func arch(res api.Resources) types.ArchitectureType {
	if res.CPUArch != nil && *res.CPUArch == "arm" {
		return types.ArchitectureTypeArm64
	}
	return types.ArchitectureTypeX8664
}

// image is the newest one that is available.
func (a *Account) image(ctx context.Context, r *region, res api.Resources) (image, error) {
	want, field := a.wanted(res)
	key := strings.Join([]string{"image", r.name, want.Owner, want.Name, string(arch(res))}, "/")
	return remember(a.known, key, imageTTL, func() (image, error) {
		out, err := r.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{
			Owners: []string{want.Owner},
			Filters: []types.Filter{
				filter("name", want.Name), filter("state", "available"), filter("architecture", string(arch(res))),
			},
		})
		if err != nil {
			return image{}, err
		}
		newest := newestImage(out.Images)
		if newest == nil {
			return image{}, wrong(field,
				"there is no image named %s of %s for %s in region %s", want.Name, want.Owner, arch(res), r.name)
		}
		i := image{id: awssdk.ToString(newest.ImageId), device: awssdk.ToString(newest.RootDeviceName)}
		for _, d := range newest.BlockDeviceMappings {
			if awssdk.ToString(d.DeviceName) == i.device && d.Ebs != nil {
				i.sizeGB = awssdk.ToInt32(d.Ebs.VolumeSize)
			}
		}
		return i, nil
	})
}

// newestImage compares the dates as AWS writes them: the greater text is later.
func newestImage(list []types.Image) *types.Image {
	var newest *types.Image
	for i := range list {
		if newest == nil || awssdk.ToString(list[i].CreationDate) > awssdk.ToString(newest.CreationDate) {
			newest = &list[i]
		}
	}
	return newest
}
