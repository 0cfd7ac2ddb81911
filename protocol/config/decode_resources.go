package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"dstack/protocol/accelerator"
	"dstack/protocol/internal/decode"
)

// DefaultResources is what a run asks for if it says nothing: 2 CPUs, 8 GB of
// memory, 100 GB of disk, any GPUs.
func DefaultResources() Resources {
	return Resources{
		CPU:    CPU{Count: from(2)},
		Memory: from(8.0),
		GPU:    &GPU{Count: from(0)},
		Disk:   &Disk{Size: from(100.0)},
	}
}

// from is the range low.. without an end.
func from[T number](low T) Range[T] { return Range[T]{Min: &low} }

func readResources(v decode.Value) Resources {
	o := v.Object()
	defer o.Done()
	def := DefaultResources()
	return Resources{
		CPU:     decode.FieldOr(o, "cpu", def.CPU, readCPU),
		Memory:  decode.FieldOr(o, "memory", def.Memory, readRange(readMemory)),
		ShmSize: decode.Field(o, "shm_size", decode.Optional(readMemory)),
		GPU:     decode.FieldOr(o, "gpu", def.GPU, decode.Optional(readGPU)),
		Disk:    decode.FieldOr(o, "disk", def.Disk, decode.Optional(readDisk)),
	}
}

// Values of cpu.arch.
const (
	ArchX86 = "x86"
	ArchARM = "arm"
)

const cpuForms = "8, 4..8, arm:4.. or {arch, count}"

// readCPU reads `cpu` (spec: configuration.md 2.3).
func readCPU(v decode.Value) CPU {
	n := v.Node()
	switch n.Kind {
	case decode.Int:
		return CPU{Count: readRange(decode.IntMin(0))(v.At(n, "count"))}
	case decode.String:
		return readCPUText(v)
	case decode.Map:
		if len(n.Pairs) > 0 && (n.Lookup("min") != nil || n.Lookup("max") != nil) {
			return CPU{Count: readRange(decode.Integer)(v.At(n, "count"))}
		}
		o := v.Object()
		defer o.Done()
		return CPU{
			Arch:  decode.Field(o, "arch", decode.Optional(readArch)),
			Count: decode.FieldOr(o, "count", DefaultResources().CPU.Count, readRange(decode.Integer)),
		}
	}
	v.Fail("model_attributes_type", "must be a CPU requirement", cpuForms)
	return CPU{}
}

func readArch(v decode.Value) string {
	if v.Kind() == decode.String {
		if arch := strings.ToLower(v.Node().Text); arch == ArchX86 || arch == ArchARM {
			return arch
		}
	}
	v.FailValue("must be a CPU architecture", "Invalid CPU architecture: "+v.Node().Text, "x86 or arm")
	return ""
}

func readCPUText(v decode.Value) CPU {
	cpu := CPU{Count: DefaultResources().CPU.Count}
	n := v.Node()
	hasCount := false
	for token := range strings.SplitSeq(withoutBlanks(n.Text), ":") {
		isCount := strings.Contains(token, "..") || digitsOnly(token)
		switch {
		case token == "":
			v.FailValue("has an empty part", "CPU spec contains empty token: "+n.Text, cpuForms)
			return cpu
		case isCount && hasCount:
			v.FailValue("has two counts", "CPU spec count conflict: "+n.Text, cpuForms)
			return cpu
		case isCount:
			hasCount = true
			cpu.Count = readRange(decode.Integer)(v.At(n.WithText(token), "count"))
		case cpu.Arch != nil:
			v.FailValue("has two architectures", "CPU spec arch conflict: "+n.Text, cpuForms)
			return cpu
		default:
			arch, ok := decode.Try(v.At(n.WithText(token)), readArch)
			if !ok {
				return cpu
			}
			cpu.Arch = &arch
		}
	}
	return cpu
}

func digitsOnly(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Vendors of accelerators.
const (
	VendorNvidia      = accelerator.Nvidia
	VendorAMD         = accelerator.AMD
	VendorGoogle      = accelerator.Google
	VendorIntel       = accelerator.Intel
	VendorTenstorrent = accelerator.Tenstorrent
)

// vendorNames maps every accepted spelling, in lower case, to a vendor.
var vendorNames = map[string]string{
	VendorNvidia: VendorNvidia, VendorAMD: VendorAMD, VendorGoogle: VendorGoogle, VendorIntel: VendorIntel,
	VendorTenstorrent: VendorTenstorrent, "tpu": VendorGoogle, "tt": VendorTenstorrent,
}

const gpuForms = "[VENDOR:]NAME[,NAME][:MEMORY][:COUNT], COUNT or a mapping"

// readGPU reads `gpu` (spec: configuration.md 2.4).
func readGPU(v decode.Value) GPU {
	n := v.Node()
	switch n.Kind {
	case decode.Int:
		return GPU{Count: readRange(decode.Integer)(v.At(n, "count"))}
	case decode.Bool: // 0.22.5 takes it for a name
		name := "False"
		if n.Bool {
			name = "True"
		}
		return GPU{Name: []string{name}, Count: from(1)}
	case decode.String:
		return readGPUText(v)
	case decode.Map:
		o := v.Object()
		defer o.Done()
		return GPU{
			Vendor:            decode.Field(o, "vendor", decode.Optional(readVendor)),
			Name:              decode.Field(o, "name", readGPUNames),
			Count:             decode.FieldOr(o, "count", from(1), readRange(decode.Integer)),
			Memory:            decode.Field(o, "memory", decode.Optional(readRange(readMemory))),
			TotalMemory:       decode.Field(o, "total_memory", decode.Optional(readRange(readMemory))),
			ComputeCapability: decode.Field(o, "compute_capability", readComputeCapability),
		}
	}
	v.Fail("model_attributes_type", "must be a GPU requirement", gpuForms)
	return GPU{}
}

func readVendor(v decode.Value) string {
	if v.Kind() == decode.String {
		if vendor, ok := vendorNames[strings.ToLower(v.Node().Text)]; ok {
			return vendor
		}
	}
	v.FailValue("must be a GPU vendor", "'"+v.Node().Text+"' is not a valid AcceleratorVendor", "nvidia, amd, google (tpu), intel or tenstorrent (tt)")
	return ""
}

func readGPUNames(v decode.Value) []string {
	if v.Kind() == decode.Null {
		return nil
	}
	names := slices.Clone(readNames(v))
	for i, name := range names {
		names[i] = strings.TrimPrefix(name, "tpu-")
	}
	return names
}

// readGPUText reads tokens of any order; each kind may occur once.
func readGPUText(v decode.Value) GPU {
	g := GPU{Count: from(1)}
	n := v.Node()
	seen := map[string]bool{}
	for token := range strings.SplitSeq(withoutBlanks(n.Text), ":") {
		kind := gpuToken(token)
		switch {
		case kind == "":
			v.FailValue("has an empty part", "GPU spec contains empty token: "+n.Text, gpuForms)
			return g
		case seen[kind]:
			v.FailValue("has two "+kind+" parts", "GPU spec "+kind+" conflict: "+n.Text, gpuForms)
			return g
		}
		seen[kind] = true
		switch kind {
		case "vendor":
			vendor := vendorNames[strings.ToLower(token)]
			g.Vendor = &vendor
		case "name":
			names := strings.Split(token, ",")
			if slices.Contains(names, "") {
				v.FailValue("has an empty GPU name", "GPU name can not be empty: "+n.Text, gpuForms)
				return g
			}
			for _, name := range names {
				g.Name = append(g.Name, strings.TrimPrefix(name, "tpu-"))
			}
		case "memory":
			memory := readRange(readMemory)(v.At(n.WithText(token), "memory"))
			g.Memory = &memory
		case "count":
			g.Count = readRange(decode.Integer)(v.At(n.WithText(token), "count"))
		}
	}
	return g
}

// gpuToken tells what a token of a GPU text is; "" for an empty one.
func gpuToken(token string) string {
	switch {
	case token == "":
		return ""
	case vendorNames[strings.ToLower(token)] != "":
		return "vendor"
	case unicode.IsLetter([]rune(token)[0]):
		return "name"
	case strings.ContainsFunc(token, unicode.IsLetter):
		return "memory"
	}
	return "count"
}

var capabilityText = regexp.MustCompile(`^(\d+)\.(\d+)$`)

// readComputeCapability reads MAJOR.MINOR as text, float or list.
func readComputeCapability(v decode.Value) []int {
	n := v.Node()
	switch n.Kind {
	case decode.Null:
		return nil
	case decode.List:
		pair, ok := decode.Try(v, decode.ListOf(decode.Integer))
		if ok && len(pair) == 2 {
			return pair
		}
	case decode.Float, decode.String:
		if m := capabilityText.FindStringSubmatch(decode.Text(v)); m != nil {
			major, okMajor := decode.ParseInt(m[1])
			minor, okMinor := decode.ParseInt(m[2])
			if okMajor && okMinor {
				return []int{major, minor}
			}
		}
	}
	v.FailValue("must be a compute capability", "Invalid compute capability: "+n.Text, "MAJOR.MINOR such as 8.0")
	return nil
}

// readDisk reads `disk` (spec: configuration.md 2.5).
func readDisk(v decode.Value) Disk {
	if v.Kind() != decode.Map {
		return Disk{Size: readRange(readMemory)(v.At(v.Node(), "size"))}
	}
	o := v.Object()
	defer o.Done()
	return Disk{Size: decode.Required(o, "size", readRange(readMemory))}
}

// String writes a range as N, N..M, N.. or ..M.
func (r Range[T]) String() string {
	switch {
	case r.Min == nil && r.Max == nil:
		return ".."
	case r.Max == nil:
		return fmt.Sprintf("%v..", *r.Min)
	case r.Min == nil:
		return fmt.Sprintf("..%v", *r.Max)
	case *r.Min == *r.Max:
		return fmt.Sprint(*r.Min)
	}
	return fmt.Sprintf("%v..%v", *r.Min, *r.Max)
}
