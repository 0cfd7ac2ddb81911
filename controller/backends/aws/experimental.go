package aws

import (
	"context"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// offered are the names of the machine types of the table and of
// experimental_instance_types.
func (a *Account) offered() []string {
	names := make([]string, 0, len(single))
	for _, s := range shapes() {
		names = append(names, s.name)
	}
	for _, name := range a.cfg.ExperimentalInstanceTypes {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// experimental are the machine types that the configuration names and the
// table does not know, as AWS describes them. An account that may not ask, or
// an answer that does not come, leaves them out.
func (a *Account) experimental(ctx context.Context, r *region) []shape {
	names := a.offered()[len(shapes()):]
	if len(names) == 0 {
		return nil
	}
	got, _ := remember(a.known, "experimental/"+r.name, typesTTL, func() ([]shape, error) {
		var out []shape
		pages := ec2.NewDescribeInstanceTypesPaginator(r.ec2, &ec2.DescribeInstanceTypesInput{
			Filters: []types.Filter{filter("instance-type", names...)},
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, t := range page.InstanceTypes {
				if s, ok := described(t); ok {
					out = append(out, s)
				}
			}
		}
		return out, nil
	})
	return got
}

// described is a machine type in AWS's words. It is not ok if it has
// accelerators other than GPUs of NVIDIA of one kind.
func described(t types.InstanceTypeInfo) (shape, bool) {
	if t.VCpuInfo == nil || t.MemoryInfo == nil || t.ProcessorInfo == nil || t.FpgaInfo != nil || t.InferenceAcceleratorInfo != nil ||
		t.NeuronInfo != nil {
		return shape{}, false
	}
	s := shape{
		name: string(t.InstanceType), cpus: int(awssdk.ToInt32(t.VCpuInfo.DefaultVCpus)),
		memoryGiB: int(awssdk.ToInt64(t.MemoryInfo.SizeInMiB) / 1024),
		arm:       slices.Contains(t.ProcessorInfo.SupportedArchitectures, types.ArchitectureTypeArm64),
	}
	if t.GpuInfo == nil || len(t.GpuInfo.Gpus) == 0 {
		return s, true
	}
	g := t.GpuInfo.Gpus[0]
	if len(t.GpuInfo.Gpus) > 1 || g.MemoryInfo == nil || !strings.EqualFold(awssdk.ToString(g.Manufacturer), "nvidia") {
		return shape{}, false
	}
	s.gpu, s.gpus = strings.ReplaceAll(awssdk.ToString(g.Name), " ", ""), int(awssdk.ToInt32(g.Count))
	s.gpuGiB = (int(awssdk.ToInt32(g.MemoryInfo.SizeInMiB)) + 512) / 1024
	return s, true
}
