package cli

import (
	"encoding/json"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// fakeOffers are the offers of the transcripts; none above a price of 100.
func fakeOffers(req api.GetRunPlanRequest, job api.JobPlan) api.JobPlan {
	if price := req.RunSpec.Configuration.Task.MaxPrice; price != nil && *price > 100 {
		job.Offers, job.TotalOffers = nil, 0
		return job
	}
	arch := "x86"
	machine := func(name string, cpus, memory int, gpu string, gpuMemory, count int, spot bool) api.InstanceType {
		gpus := make([]api.GPU, count)
		for i := range gpus {
			gpus[i] = api.GPU{Name: gpu, MemoryMiB: gpuMemory << 10}
		}
		return api.InstanceType{Name: name, Resources: api.Resources{
			CPUs: cpus, MemoryMiB: memory << 10, GPUs: gpus, Spot: spot, Disk: api.Disk{SizeMiB: 102400}, CPUArch: &arch,
		}}
	}
	highest := 98.32
	all := []api.Offer{
		{Backend: "remote", Region: "remote", Instance: machine("instance", 96, 512, "H100", 80, 4, false), Availability: "idle", Blocks: 4, TotalBlocks: 8},
		{Backend: "vastai", Region: "us-texas", Instance: machine("12345", 16, 64, "RTX4090", 24, 1, true), Price: 1.23456, Availability: "available", Blocks: 1, TotalBlocks: 1},
		{Backend: "aws", Region: "us-east-1", Instance: machine("p5.48xlarge", 192, 1024, "H100", 80, 8, false), Price: 98.32, Availability: "not_available", Blocks: 1, TotalBlocks: 1},
	}
	job.Offers, job.TotalOffers, job.MaxPrice = all[:min(len(all), *req.MaxOffers)], 124, &highest
	return job
}

func answerOffers(call string, body *json.Decoder) (any, error, bool) {
	span := func(low, high int) config.Range[int] { return config.Range[int]{Min: &low, Max: &high} }
	price := func(low, high float64) config.Range[float64] { return config.Range[float64]{Min: &low, Max: &high} }
	switch call {
	case "gpus/list":
		groups := []api.GPUGroup{
			{
				Name: "H100", MemoryMiB: 81920, Vendor: "nvidia", Availability: []string{"not_available", "available"}, Spot: []string{"spot", "on-demand"},
				Count: span(1, 8), Price: price(1.99, 12.5), Backends: []string{"aws", "gcp"}, Regions: []string{"a", "b", "c", "d"},
			},
			{
				Name: "A100", MemoryMiB: 81920, Vendor: "nvidia", Availability: []string{"not_available"}, Spot: []string{"spot"},
				Count: span(1, 1), Price: price(2, 2), Backends: []string{"runpod"}, Regions: []string{"EU"},
			},
		}
		by := in[api.ListGPUsRequest](body).GroupBy
		for i := range groups {
			if len(by) > 0 {
				groups[i].Backend, groups[i].Backends = &groups[i].Backends[0], nil
			}
			if len(by) > 1 {
				groups[i].Region, groups[i].Regions = &groups[i].Regions[0], nil
			}
		}
		return api.ListGPUsResponse{GPUs: groups}, nil, true
	case "runs/why":
		name := in[api.WhyRequest](body).RunName
		if name != "waiting" {
			return nil, errNotThere, true
		}
		host, backend, cloud := "lab-0", "remote", "aws"
		return api.RunWhy{
			RunName: name, Status: api.RunPending, Code: "no_room", State: "The run waiting (pending): no instance fits.", Next: "Add hosts to a fleet, or ask for less.",
			Jobs: []api.JobWhy{{JobName: "waiting-0-0", Status: api.JobSubmitted, Code: "no_room", State: "The job waiting-0-0: no instance fits."}},
			Candidates: []api.Candidate{
				{JobName: "waiting-0-0", Fleet: "lab", Instance: &host, Backend: &backend, Verdict: api.CandidateRejected, Code: "cpu", Reason: "it has 4 CPUs, 8 are wanted", Next: "Ask for at most 4 CPUs."},
				{JobName: "waiting-0-0", Fleet: "cloud", Verdict: api.CandidateFits},
				{JobName: "waiting-0-0", Fleet: "cloud", Backend: &cloud, Verdict: api.CandidateFits, Offers: 1, Type: "m5.2xlarge", Region: "us-east-1", Price: 0.3951},
				{
					JobName: "waiting-0-0", Fleet: "cloud", Backend: &cloud, Verdict: api.CandidateRejected, Code: "price_too_high", Offers: 12, Type: "g5.xlarge",
					Region: "us-east-1", Price: 1.006, Reason: "12 offers: it costs more than the run may; the cheapest costs 1.016, more than max_price 1", Next: "Raise `max_price`.",
				},
				{JobName: "waiting-0-0", Backend: &cloud, Verdict: api.CandidateRejected, Code: "backend_silent", Reason: "its offers have not arrived yet", Next: "Wait a moment."},
			},
		}, nil, true
	}
	return nil, nil, false
}
