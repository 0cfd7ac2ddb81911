package prometheus

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"dstack/controller/store"
	"dstack/protocol/api"
)

// snapshot is what of the database is shown.
type snapshot struct {
	now       time.Time
	projects  map[string]store.Project
	users     map[string]store.User
	fleets    map[string]store.Fleet
	runs      map[string]store.Run
	counts    []store.RunCount
	instances []store.Instance
	jobs      []store.Job
	used      map[string]store.MetricsPoint
}

func takeSnapshot(tx *store.Tx, now time.Time) (*snapshot, error) {
	s := &snapshot{now: now}
	var projects, users, fleets, runs, jobs []string
	for _, step := range []func() error{
		func() (err error) { s.counts, err = tx.CountRuns(); return },
		func() (err error) { s.instances, err = tx.LiveInstances(); return },
		func() (err error) { s.jobs, err = tx.LiveJobs(); return },
		func() (err error) {
			for _, j := range s.jobs {
				runs, jobs = append(runs, j.RunID), append(jobs, j.ID)
			}
			if s.runs, err = tx.RunsByID(runs); err != nil {
				return err
			}
			s.used, err = tx.LatestMetrics(jobs)
			return err
		},
		func() (err error) {
			for _, c := range s.counts {
				projects, users = append(projects, c.ProjectID), append(users, c.UserID)
			}
			for _, i := range s.instances {
				projects, fleets = append(projects, i.ProjectID), append(fleets, i.FleetID)
			}
			s.projects, err = tx.ProjectsByID(projects)
			return err
		},
		func() (err error) { s.users, err = tx.UsersByID(users); return },
		func() (err error) { s.fleets, err = tx.FleetsByID(fleets); return },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("take snapshot: %w", err)
		}
	}
	return s, nil
}

func (s *snapshot) families() []*family {
	return slices.Concat(s.instanceFamilies(), s.runFamilies(), s.allJobFamilies())
}

// gpuName is what dstack_gpu says: all accelerators are of one kind.
func gpuName(r api.Resources) string {
	if len(r.GPUs) == 0 {
		return ""
	}
	return r.GPUs[0].Name
}

func (s *snapshot) instanceFamilies() []*family {
	duration := &family{name: "dstack_instance_duration_seconds_total", kind: counter, help: "Total seconds the instance is running"}
	price := &family{name: "dstack_instance_price_dollars_per_hour", kind: gauge, help: "Instance price, USD/hour"}
	gpus := &family{name: "dstack_instance_gpu_count", kind: gauge, help: "Instance GPU count"}
	for _, i := range s.instances {
		var typ api.InstanceType
		if i.Type != nil {
			typ = *i.Type
		}
		labels := []label{
			{"dstack_project_name", s.projects[i.ProjectID].Name},
			{"dstack_fleet_name", s.fleets[i.FleetID].Name},
			{"dstack_fleet_id", i.FleetID},
			{"dstack_instance_name", i.Name},
			{"dstack_instance_id", i.ID},
			{"dstack_instance_type", typ.Name},
			{"dstack_backend", i.Backend},
			{"dstack_gpu", gpuName(typ.Resources)},
		}
		duration.add(s.now.Sub(i.CreatedAt).Seconds(), labels)
		price.add(i.Price, labels)
		gpus.add(float64(len(typ.Resources.GPUs)), labels)
	}
	return []*family{duration, price, gpus}
}

func (s *snapshot) runFamilies() []*family {
	total := &family{name: "dstack_run_count_total", kind: counter, help: "Total runs count"}
	terminated := &family{name: "dstack_run_count_terminated_total", kind: counter, help: "Terminated runs count"}
	failed := &family{name: "dstack_run_count_failed_total", kind: counter, help: "Failed runs count"}
	done := &family{name: "dstack_run_count_done_total", kind: counter, help: "Done runs count"}
	type owner struct{ project, user string }
	by := map[owner]map[api.RunStatus]int{}
	for _, c := range s.counts {
		o := owner{c.ProjectID, c.UserID}
		if by[o] == nil {
			by[o] = map[api.RunStatus]int{}
		}
		by[o][c.Status] += c.N
		by[o][""] += c.N
	}
	for o, n := range by {
		labels := []label{{"dstack_project_name", s.projects[o.project].Name}, {"dstack_user_name", s.users[o.user].Name}}
		total.add(float64(n[""]), labels)
		terminated.add(float64(n[api.RunTerminated]), labels)
		failed.add(float64(n[api.RunFailed]), labels)
		done.add(float64(n[api.RunDone]), labels)
	}
	all := []*family{total, terminated, failed, done}
	for _, f := range all {
		slices.SortFunc(f.samples, byLabels)
	}
	return all
}

// allJobFamilies are those of jobs that have a place.
func (s *snapshot) allJobFamilies() []*family {
	f := newJobFamilies()
	for i := range s.jobs {
		j := &s.jobs[i]
		if j.Status == api.JobSubmitted || j.Provisioning == nil {
			continue
		}
		resources, price := j.Provisioning.InstanceType.Resources, j.Provisioning.Price
		if j.Runtime != nil && j.Runtime.Offer != nil {
			resources, price = j.Runtime.Offer.Instance.Resources, j.Runtime.Offer.Price
		}
		labels := s.jobLabels(j, gpuName(resources))
		f.duration.add(s.now.Sub(j.SubmittedAt).Seconds(), labels)
		f.price.add(price, labels)
		f.gpus.add(float64(len(resources.GPUs)), labels)
		f.cpus.add(float64(resources.CPUs), labels)
		f.memory.add(float64(int64(resources.MemoryMiB)<<20), labels)
		if used, ok := s.used[j.ID]; ok {
			f.measured(used, resources, labels)
		}
	}
	return f.list()
}

func (s *snapshot) jobLabels(j *store.Job, gpu string) []label {
	run := s.runs[j.RunID]
	return []label{
		{"dstack_project_name", s.projects[j.ProjectID].Name},
		{"dstack_user_name", s.users[run.UserID].Name},
		{"dstack_run_name", j.RunName},
		{"dstack_run_id", j.RunID},
		{"dstack_job_name", j.Spec.JobName},
		{"dstack_job_id", j.ID},
		{"dstack_job_num", strconv.Itoa(j.JobNum)},
		{"dstack_replica_num", strconv.Itoa(j.ReplicaNum)},
		{"dstack_run_type", run.Spec.Configuration.Type()},
		{"dstack_backend", j.Provisioning.Backend},
		{"dstack_gpu", gpu},
	}
}

// jobFamilies are the families of jobs.
type jobFamilies struct {
	duration, price, gpus, cpus, cpuTime, memory, memoryUsed, workingSet *family
	gpuLoad, gpuMemory, gpuMemoryUsed                                    *family
}

func newJobFamilies() *jobFamilies {
	return &jobFamilies{
		duration:      &family{name: "dstack_job_duration_seconds_total", kind: counter, help: "Total seconds the job is running"},
		price:         &family{name: "dstack_job_price_dollars_per_hour", kind: gauge, help: "Job instance price, USD/hour"},
		gpus:          &family{name: "dstack_job_gpu_count", kind: gauge, help: "Job GPU count"},
		cpus:          &family{name: "dstack_job_cpu_count", kind: gauge, help: "Job CPU count"},
		cpuTime:       &family{name: "dstack_job_cpu_time_seconds_total", kind: counter, help: "Total CPU time consumed by the job, seconds"},
		memory:        &family{name: "dstack_job_memory_total_bytes", kind: gauge, help: "Total memory allocated for the job, bytes"},
		memoryUsed:    &family{name: "dstack_job_memory_usage_bytes", kind: gauge, help: "Memory used by the job (including cache), bytes"},
		workingSet:    &family{name: "dstack_job_memory_working_set_bytes", kind: gauge, help: "Memory used by the job (not including cache), bytes"},
		gpuLoad:       &family{name: "dstack_job_gpu_usage_ratio", kind: gauge, help: "Job GPU usage, percent (as 0.0-1.0)"},
		gpuMemory:     &family{name: "dstack_job_gpu_memory_total_bytes", kind: gauge, help: "Total GPU memory allocated for the job, bytes"},
		gpuMemoryUsed: &family{name: "dstack_job_gpu_memory_usage_bytes", kind: gauge, help: "GPU memory used by the job, bytes"},
	}
}

// list is in the order of 0.22.5.
func (f *jobFamilies) list() []*family {
	return []*family{
		f.duration, f.price, f.gpus, f.cpus, f.cpuTime, f.memory, f.memoryUsed, f.workingSet,
		f.gpuLoad, f.gpuMemory, f.gpuMemoryUsed,
	}
}

func (f *jobFamilies) measured(used store.MetricsPoint, r api.Resources, labels []label) {
	f.cpuTime.add(float64(used.CPUMicro)/1e6, labels)
	f.memoryUsed.add(float64(used.MemoryBytes), labels)
	f.workingSet.add(float64(used.WorkingSetBytes), labels)
	for n, g := range used.GPUs {
		with := append(slices.Clone(labels), label{"dstack_gpu_num", strconv.Itoa(n)})
		if g.UtilPercent >= 0 {
			f.gpuLoad.add(float64(g.UtilPercent)/100, with)
		}
		if len(r.GPUs) > 0 {
			f.gpuMemory.add(float64(int64(r.GPUs[0].MemoryMiB)<<20), with)
		}
		f.gpuMemoryUsed.add(float64(g.MemoryBytes), with)
	}
}
