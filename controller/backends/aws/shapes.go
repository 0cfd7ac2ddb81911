package aws

import (
	"strconv"
	"strings"
	"time"

	"dstack/protocol/api"
)

// shape is a machine type.
type shape struct {
	name      string
	cpus      int
	memoryGiB int
	gpu       string
	gpuGiB    int
	gpus      int
	// price is in USD an hour on demand, in us-east-1; 0 if it is not known.
	price float64
	arm   bool
}

// shapesDate is the date of the prices in the table: AWS's public price list
// for us-east-1, Linux, on demand. Types are those of the shared spec,
// backends.md 3.1; a metal type costs what the largest other type of its size
// does.
var shapesDate = time.Date(2026, 7, 20, 0, 0, 0, 0, time.UTC)

// series are families whose machines are multiples of one vCPU.
var series = []struct {
	family string
	sizes  []int
	// memory in GiB and price for each vCPU.
	memoryGiB int
	price     float64
}{
	{"m7i", []int{2, 4, 8, 16, 32, 48, 64, 96, 192}, 4, 0.0504},
	{"c7i", []int{2, 4, 8, 16, 32, 48, 64, 96, 192}, 2, 0.044625},
	{"r7i", []int{2, 4, 8, 16, 32, 48, 64, 96, 192}, 8, 0.06615},
	{"m5", []int{2, 4, 8, 16, 32, 48, 64, 96}, 4, 0.048},
	{"c5", []int{2, 4, 8, 16, 36, 48, 72, 96}, 2, 0.0425},
}

// single are machine types that follow no rule.
var single = []shape{
	{name: "t2.small", cpus: 1, memoryGiB: 2, price: 0.023},
	{name: "t3.small", cpus: 2, memoryGiB: 2, price: 0.0208},
	{name: "t3.medium", cpus: 2, memoryGiB: 4, price: 0.0416},
	{name: "t3.large", cpus: 2, memoryGiB: 8, price: 0.0832},
	{name: "t3.xlarge", cpus: 4, memoryGiB: 16, price: 0.1664},
	{name: "t3.2xlarge", cpus: 8, memoryGiB: 32, price: 0.3328},

	{name: "m7i.metal-24xl", cpus: 96, memoryGiB: 384, price: 4.8384},
	{name: "m7i.metal-48xl", cpus: 192, memoryGiB: 768, price: 9.6768},
	{name: "c7i.metal-24xl", cpus: 96, memoryGiB: 192, price: 4.284},
	{name: "c7i.metal-48xl", cpus: 192, memoryGiB: 384, price: 8.568},
	{name: "r7i.metal-24xl", cpus: 96, memoryGiB: 768, price: 6.3504},
	{name: "r7i.metal-48xl", cpus: 192, memoryGiB: 1536, price: 12.7008},
	{name: "m5.metal", cpus: 96, memoryGiB: 384, price: 4.608},
	{name: "c5.metal", cpus: 96, memoryGiB: 192, price: 4.08},

	{name: "g4dn.xlarge", cpus: 4, memoryGiB: 16, gpu: "T4", gpuGiB: 16, gpus: 1, price: 0.526},
	{name: "g4dn.2xlarge", cpus: 8, memoryGiB: 32, gpu: "T4", gpuGiB: 16, gpus: 1, price: 0.752},
	{name: "g4dn.4xlarge", cpus: 16, memoryGiB: 64, gpu: "T4", gpuGiB: 16, gpus: 1, price: 1.204},
	{name: "g4dn.8xlarge", cpus: 32, memoryGiB: 128, gpu: "T4", gpuGiB: 16, gpus: 1, price: 2.176},
	{name: "g4dn.12xlarge", cpus: 48, memoryGiB: 192, gpu: "T4", gpuGiB: 16, gpus: 4, price: 3.912},
	{name: "g4dn.16xlarge", cpus: 64, memoryGiB: 256, gpu: "T4", gpuGiB: 16, gpus: 1, price: 4.352},
	{name: "g4dn.metal", cpus: 96, memoryGiB: 384, gpu: "T4", gpuGiB: 16, gpus: 8, price: 7.824},

	{name: "g5.xlarge", cpus: 4, memoryGiB: 16, gpu: "A10G", gpuGiB: 24, gpus: 1, price: 1.006},
	{name: "g5.2xlarge", cpus: 8, memoryGiB: 32, gpu: "A10G", gpuGiB: 24, gpus: 1, price: 1.212},
	{name: "g5.4xlarge", cpus: 16, memoryGiB: 64, gpu: "A10G", gpuGiB: 24, gpus: 1, price: 1.624},
	{name: "g5.8xlarge", cpus: 32, memoryGiB: 128, gpu: "A10G", gpuGiB: 24, gpus: 1, price: 2.448},
	{name: "g5.12xlarge", cpus: 48, memoryGiB: 192, gpu: "A10G", gpuGiB: 24, gpus: 4, price: 5.672},
	{name: "g5.16xlarge", cpus: 64, memoryGiB: 256, gpu: "A10G", gpuGiB: 24, gpus: 1, price: 4.096},
	{name: "g5.24xlarge", cpus: 96, memoryGiB: 384, gpu: "A10G", gpuGiB: 24, gpus: 4, price: 8.144},
	{name: "g5.48xlarge", cpus: 192, memoryGiB: 768, gpu: "A10G", gpuGiB: 24, gpus: 8, price: 16.288},

	{name: "g6.xlarge", cpus: 4, memoryGiB: 16, gpu: "L4", gpuGiB: 24, gpus: 1, price: 0.8048},
	{name: "g6.2xlarge", cpus: 8, memoryGiB: 32, gpu: "L4", gpuGiB: 24, gpus: 1, price: 0.9776},
	{name: "g6.4xlarge", cpus: 16, memoryGiB: 64, gpu: "L4", gpuGiB: 24, gpus: 1, price: 1.3232},
	{name: "g6.8xlarge", cpus: 32, memoryGiB: 128, gpu: "L4", gpuGiB: 24, gpus: 1, price: 2.0144},
	{name: "g6.12xlarge", cpus: 48, memoryGiB: 192, gpu: "L4", gpuGiB: 24, gpus: 4, price: 4.6016},
	{name: "g6.16xlarge", cpus: 64, memoryGiB: 256, gpu: "L4", gpuGiB: 24, gpus: 1, price: 3.3968},
	{name: "g6.24xlarge", cpus: 96, memoryGiB: 384, gpu: "L4", gpuGiB: 24, gpus: 4, price: 6.6752},
	{name: "g6.48xlarge", cpus: 192, memoryGiB: 768, gpu: "L4", gpuGiB: 24, gpus: 8, price: 13.3504},
	{name: "gr6.4xlarge", cpus: 16, memoryGiB: 128, gpu: "L4", gpuGiB: 24, gpus: 1, price: 1.5392},
	{name: "gr6.8xlarge", cpus: 32, memoryGiB: 256, gpu: "L4", gpuGiB: 24, gpus: 1, price: 2.4464},

	{name: "g6e.xlarge", cpus: 4, memoryGiB: 32, gpu: "L40S", gpuGiB: 48, gpus: 1, price: 1.861},
	{name: "g6e.2xlarge", cpus: 8, memoryGiB: 64, gpu: "L40S", gpuGiB: 48, gpus: 1, price: 2.24208},
	{name: "g6e.4xlarge", cpus: 16, memoryGiB: 128, gpu: "L40S", gpuGiB: 48, gpus: 1, price: 3.00424},
	{name: "g6e.8xlarge", cpus: 32, memoryGiB: 256, gpu: "L40S", gpuGiB: 48, gpus: 1, price: 4.52856},
	{name: "g6e.12xlarge", cpus: 48, memoryGiB: 384, gpu: "L40S", gpuGiB: 48, gpus: 4, price: 10.49264},
	{name: "g6e.16xlarge", cpus: 64, memoryGiB: 512, gpu: "L40S", gpuGiB: 48, gpus: 1, price: 7.57719},
	{name: "g6e.24xlarge", cpus: 96, memoryGiB: 768, gpu: "L40S", gpuGiB: 48, gpus: 4, price: 15.06559},
	{name: "g6e.48xlarge", cpus: 192, memoryGiB: 1536, gpu: "L40S", gpuGiB: 48, gpus: 8, price: 30.13118},

	{name: "g7.2xlarge", cpus: 8, memoryGiB: 32, gpu: "RTXPRO4500", gpuGiB: 32, gpus: 1, price: 2.52},
	{name: "g7.4xlarge", cpus: 16, memoryGiB: 64, gpu: "RTXPRO4500", gpuGiB: 32, gpus: 1, price: 3.04208},
	{name: "g7.8xlarge", cpus: 32, memoryGiB: 128, gpu: "RTXPRO4500", gpuGiB: 32, gpus: 1, price: 4.08624},
	{name: "g7.12xlarge", cpus: 48, memoryGiB: 192, gpu: "RTXPRO4500", gpuGiB: 32, gpus: 2, price: 7.12832},
	{name: "g7.24xlarge", cpus: 96, memoryGiB: 384, gpu: "RTXPRO4500", gpuGiB: 32, gpus: 4, price: 14.25664},
	{name: "g7.48xlarge", cpus: 192, memoryGiB: 768, gpu: "RTXPRO4500", gpuGiB: 32, gpus: 8, price: 28.51328},
	{name: "g7e.2xlarge", cpus: 8, memoryGiB: 64, gpu: "RTXPRO6000", gpuGiB: 96, gpus: 1, price: 3.36312},
	{name: "g7e.4xlarge", cpus: 16, memoryGiB: 128, gpu: "RTXPRO6000", gpuGiB: 96, gpus: 1, price: 3.99816},
	{name: "g7e.8xlarge", cpus: 32, memoryGiB: 256, gpu: "RTXPRO6000", gpuGiB: 96, gpus: 1, price: 5.26824},
	{name: "g7e.12xlarge", cpus: 48, memoryGiB: 512, gpu: "RTXPRO6000", gpuGiB: 96, gpus: 2, price: 8.28608},
	{name: "g7e.24xlarge", cpus: 96, memoryGiB: 1024, gpu: "RTXPRO6000", gpuGiB: 96, gpus: 4, price: 16.57216},
	{name: "g7e.48xlarge", cpus: 192, memoryGiB: 2048, gpu: "RTXPRO6000", gpuGiB: 96, gpus: 8, price: 33.14432},

	{name: "p4d.24xlarge", cpus: 96, memoryGiB: 1152, gpu: "A100", gpuGiB: 40, gpus: 8, price: 21.95764},
	{name: "p4de.24xlarge", cpus: 96, memoryGiB: 1152, gpu: "A100", gpuGiB: 80, gpus: 8, price: 27.44705},
	{name: "p5.4xlarge", cpus: 16, memoryGiB: 256, gpu: "H100", gpuGiB: 80, gpus: 1, price: 6.88},
	{name: "p5.48xlarge", cpus: 192, memoryGiB: 2048, gpu: "H100", gpuGiB: 80, gpus: 8, price: 55.04},
	{name: "p5e.48xlarge", cpus: 192, memoryGiB: 2048, gpu: "H200", gpuGiB: 141, gpus: 8}, // sold in capacity blocks only
	{name: "p5en.48xlarge", cpus: 192, memoryGiB: 2048, gpu: "H200", gpuGiB: 141, gpus: 8, price: 63.296},
	{name: "p6-b200.48xlarge", cpus: 192, memoryGiB: 2048, gpu: "B200", gpuGiB: 180, gpus: 8, price: 113.9328},
	{name: "p6-b300.48xlarge", cpus: 192, memoryGiB: 4096, gpu: "B300", gpuGiB: 270, gpus: 8, price: 142.416},
}

// shapes is the whole table.
func shapes() []shape {
	out := append([]shape(nil), single...)
	for _, s := range series {
		for _, cpus := range s.sizes {
			out = append(out, shape{
				name: s.family + "." + sizeName(cpus), cpus: cpus, memoryGiB: cpus * s.memoryGiB, price: float64(cpus) * s.price,
			})
		}
	}
	return out
}

// sizeName is AWS's name of a size: xlarge has 4 vCPUs.
func sizeName(cpus int) string {
	switch cpus {
	case 2:
		return "large"
	case 4:
		return "xlarge"
	}
	return strconv.Itoa(cpus/4) + "xlarge"
}

// resources are what a machine of a shape has. The disk is chosen with it.
func (s shape) resources(spot bool) api.Resources {
	arch, vendor := "x86", "nvidia"
	if s.arm {
		arch = "arm"
	}
	r := api.Resources{CPUs: s.cpus, MemoryMiB: s.memoryGiB * 1024, Spot: spot, CPUArch: &arch}
	for range s.gpus {
		r.GPUs = append(r.GPUs, api.GPU{Name: s.gpu, MemoryMiB: s.gpuGiB * 1024, Vendor: &vendor})
	}
	return r
}

// family is a limit of AWS on running vCPUs.
type family struct {
	// name is AWS's own, code that of Service Quotas; the latter is empty if it
	// is not known.
	name, code string
}

// familyOf is what machines of a type count against.
func familyOf(machineType string, spot bool) family {
	switch {
	case strings.HasPrefix(machineType, "g") && spot:
		return family{"All G and VT Spot Instance Requests", "L-3819A6DF"}
	case strings.HasPrefix(machineType, "g"):
		return family{"Running On-Demand G and VT instances", "L-DB2E81BA"}
	case strings.HasPrefix(machineType, "p4") && spot:
		return family{"All P4, P3 and P2 Spot Instance Requests", "L-7212CCBC"}
	case strings.HasPrefix(machineType, "p5") && spot:
		return family{"All P5 Spot Instance Requests", "L-C4BD4855"}
	case strings.HasPrefix(machineType, "p") && spot:
		return family{name: "All P6 Spot Instance Requests"}
	case strings.HasPrefix(machineType, "p"):
		return family{"Running On-Demand P instances", "L-417A185B"}
	case spot:
		return family{"All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", "L-34B43A08"}
	}
	return family{"Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", "L-1216C47A"}
}
