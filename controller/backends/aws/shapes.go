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
	// price is in USD an hour on demand, in us-east-1.
	price float64
}

// shapesDate is the date of the prices in the table.
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
	{name: "t3.medium", cpus: 2, memoryGiB: 4, price: 0.0416},
	{name: "t3.large", cpus: 2, memoryGiB: 8, price: 0.0832},
	{name: "t3.xlarge", cpus: 4, memoryGiB: 16, price: 0.1664},
	{name: "t3.2xlarge", cpus: 8, memoryGiB: 32, price: 0.3328},

	{"g4dn.xlarge", 4, 16, "T4", 16, 1, 0.526},
	{"g4dn.2xlarge", 8, 32, "T4", 16, 1, 0.752},
	{"g4dn.4xlarge", 16, 64, "T4", 16, 1, 1.204},
	{"g4dn.8xlarge", 32, 128, "T4", 16, 1, 2.176},
	{"g4dn.12xlarge", 48, 192, "T4", 16, 4, 3.912},
	{"g4dn.16xlarge", 64, 256, "T4", 16, 1, 4.352},
	{"g4dn.metal", 96, 384, "T4", 16, 8, 7.824},

	{"g5.xlarge", 4, 16, "A10G", 24, 1, 1.006},
	{"g5.2xlarge", 8, 32, "A10G", 24, 1, 1.212},
	{"g5.4xlarge", 16, 64, "A10G", 24, 1, 1.624},
	{"g5.8xlarge", 32, 128, "A10G", 24, 1, 2.448},
	{"g5.12xlarge", 48, 192, "A10G", 24, 4, 5.672},
	{"g5.16xlarge", 64, 256, "A10G", 24, 1, 4.096},
	{"g5.24xlarge", 96, 384, "A10G", 24, 4, 8.144},
	{"g5.48xlarge", 192, 768, "A10G", 24, 8, 16.288},

	{"g6.xlarge", 4, 16, "L4", 24, 1, 0.8048},
	{"g6.2xlarge", 8, 32, "L4", 24, 1, 0.9776},
	{"g6.4xlarge", 16, 64, "L4", 24, 1, 1.3232},
	{"g6.8xlarge", 32, 128, "L4", 24, 1, 2.0144},
	{"g6.12xlarge", 48, 192, "L4", 24, 4, 4.6016},
	{"g6.16xlarge", 64, 256, "L4", 24, 1, 3.3968},
	{"g6.24xlarge", 96, 384, "L4", 24, 4, 6.6752},
	{"g6.48xlarge", 192, 768, "L4", 24, 8, 13.3504},
	{"gr6.4xlarge", 16, 128, "L4", 24, 1, 1.5392},
	{"gr6.8xlarge", 32, 256, "L4", 24, 1, 2.4464},

	{"g6e.xlarge", 4, 32, "L40S", 48, 1, 1.861},
	{"g6e.2xlarge", 8, 64, "L40S", 48, 1, 2.24208},
	{"g6e.4xlarge", 16, 128, "L40S", 48, 1, 3.00424},
	{"g6e.8xlarge", 32, 256, "L40S", 48, 1, 4.52856},
	{"g6e.12xlarge", 48, 384, "L40S", 48, 4, 10.49264},
	{"g6e.16xlarge", 64, 512, "L40S", 48, 1, 7.57719},
	{"g6e.24xlarge", 96, 768, "L40S", 48, 4, 15.06559},
	{"g6e.48xlarge", 192, 1536, "L40S", 48, 8, 30.13118},

	{"g7.2xlarge", 8, 32, "RTXPRO4500", 32, 1, 2.52},
	{"g7.4xlarge", 16, 64, "RTXPRO4500", 32, 1, 3.04208},
	{"g7.8xlarge", 32, 128, "RTXPRO4500", 32, 1, 4.08624},
	{"g7.12xlarge", 48, 192, "RTXPRO4500", 32, 2, 7.12832},
	{"g7.24xlarge", 96, 384, "RTXPRO4500", 32, 4, 14.25664},
	{"g7.48xlarge", 192, 768, "RTXPRO4500", 32, 8, 28.51328},
	{"g7e.2xlarge", 8, 64, "RTXPRO6000", 96, 1, 3.36312},
	{"g7e.4xlarge", 16, 128, "RTXPRO6000", 96, 1, 3.99816},
	{"g7e.8xlarge", 32, 256, "RTXPRO6000", 96, 1, 5.26824},
	{"g7e.12xlarge", 48, 512, "RTXPRO6000", 96, 2, 8.28608},
	{"g7e.24xlarge", 96, 1024, "RTXPRO6000", 96, 4, 16.57216},
	{"g7e.48xlarge", 192, 2048, "RTXPRO6000", 96, 8, 33.14432},

	{"p4d.24xlarge", 96, 1152, "A100", 40, 8, 21.95764},
	{"p4de.24xlarge", 96, 1152, "A100", 80, 8, 27.44705},
	{"p5.4xlarge", 16, 256, "H100", 80, 1, 6.88},
	{"p5.48xlarge", 192, 2048, "H100", 80, 8, 55.04},
	{"p5en.48xlarge", 192, 2048, "H200", 141, 8, 63.296},
	{"p6-b200.48xlarge", 192, 2048, "B200", 180, 8, 113.9328},
	{"p6-b300.48xlarge", 192, 4096, "B300", 270, 8, 142.416},
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
