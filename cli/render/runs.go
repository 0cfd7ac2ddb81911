package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"dstack/cli/term"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// RunsTable is the table of `ps` and of a run that is being applied. When
// formats the time of submission. Probes are shown if verbose or while a
// deployment is in progress.
func RunsTable(runs []api.Run, verbose bool, when func(time.Time) string) term.Table {
	probes := slices.ContainsFunc(runs, DeploymentInProgress)
	t := term.Table{Columns: []term.Column{
		{Title: "NAME"}, {Title: "BACKEND"}, {Title: "GPU"}, {Title: "PRICE", Wrap: true}, {Title: "STATUS", Wrap: true},
	}}
	if probes {
		t.Columns = append(t.Columns, term.Column{Title: "PROBES"})
	}
	t.Columns = append(t.Columns, term.Column{Title: "SUBMITTED"})
	if verbose {
		t.Columns = []term.Column{
			{Title: "NAME"}, {Title: "BACKEND", Wrap: true}, {Title: "RESOURCES", Wrap: true},
			{Title: "INSTANCE TYPE", Wrap: true}, {Title: "PRICE", Wrap: true}, {Title: "STATUS", Wrap: true},
			{Title: "PROBES"}, {Title: "SUBMITTED"}, {Title: "ERROR", Wrap: true},
		}
	}
	for _, run := range runs {
		for _, line := range runLines(run, verbose) {
			t.Rows = append(t.Rows, term.Row{Cells: line.cells(verbose, probes, when)})
		}
	}
	return t
}

// DeploymentInProgress says whether jobs of an older deployment are left.
func DeploymentInProgress(run api.Run) bool {
	return slices.ContainsFunc(run.Jobs, func(job api.Job) bool {
		last := lastSubmission(job)
		return last != nil && !last.Status.Finished() && last.DeploymentNum != run.DeploymentNum
	})
}

// runLine is one row: a run with its only job, a run alone, or a job alone.
type runLine struct {
	name      string
	submitted time.Time
	status    string
	style     term.Style
	job       *api.JobSubmission
	probes    string
	dim       bool
	err       string
}

func runLines(run api.Run, verbose bool) []runLine {
	jobs := sortedJobs(run)
	withDeployment := run.RunSpec.Configuration.Service != nil && (verbose || DeploymentInProgress(run))
	base := runLine{
		name: deref(run.RunSpec.RunName), submitted: run.SubmittedAt.Time,
		status: run.StatusMessage, err: deref(run.Error),
	}
	if base.status == "" {
		base.status = string(run.Status)
	}
	if len(jobs) == 1 && !withDeployment {
		return []runLine{base.merge(run, jobs[0], verbose)}
	}
	base.style = statusStyle(base.status, run.Status.Finished())
	if withDeployment {
		base.name += fmt.Sprintf(" deployment=%d", run.DeploymentNum)
	}
	lines := []runLine{base}
	names := jobNames(run, jobs, withDeployment)
	for i, job := range jobs {
		lines = append(lines, jobLine(job, names[i], verbose))
	}
	return lines
}

// jobNames tell the jobs of a run apart: by group, replica and job where there
// are several, and by deployment.
func jobNames(run api.Run, jobs []api.Job, withDeployment bool) []string {
	replicas := map[int]bool{}
	for _, job := range jobs {
		replicas[job.JobSpec.ReplicaNum] = true
	}
	service := run.RunSpec.Configuration.Service
	names := make([]string, len(jobs))
	lastGroup := -1
	for i, job := range jobs {
		var parts []string
		if len(replicas) > 1 {
			part := fmt.Sprintf("replica=%d", job.JobSpec.ReplicaNum)
			if service != nil {
				group := fmt.Sprintf("group=%d ", groupIndex(service, job))
				if n := groupIndex(service, job); n == lastGroup {
					group = strings.Repeat(" ", len(group))
				} else {
					lastGroup = n
				}
				part = group + part
			}
			parts = append(parts, part)
		}
		if job.JobSpec.JobsPerReplica > 1 || service == nil && len(parts) == 0 {
			parts = append(parts, fmt.Sprintf("job=%d", job.JobSpec.JobNum))
		}
		names[i] = "   " + strings.Join(parts, " ")
		if withDeployment {
			deployment := 0
			if last := lastSubmission(job); last != nil {
				deployment = last.DeploymentNum
			}
			names[i] += fmt.Sprintf(" deployment=%d", deployment)
		}
	}
	return names
}

// groupIndex is the place of a job's replica group in the configuration.
func groupIndex(service *config.Service, job api.Job) int {
	return max(slices.IndexFunc(service.Groups, func(g config.ReplicaGroup) bool { return deref(g.Name) == job.JobSpec.ReplicaGroup }), 0)
}

func sortedJobs(run api.Run) []api.Job {
	group := func(job api.Job) int { return job.JobSpec.NodeGroupIndex }
	if service := run.RunSpec.Configuration.Service; service != nil {
		group = func(job api.Job) int { return groupIndex(service, job) }
	}
	return slices.SortedStableFunc(slices.Values(run.Jobs), func(a, b api.Job) int {
		return cmp.Or(
			cmp.Compare(group(a), group(b)),
			cmp.Compare(a.JobSpec.ReplicaNum, b.JobSpec.ReplicaNum),
			cmp.Compare(a.JobSpec.JobNum, b.JobSpec.JobNum))
	})
}

func lastSubmission(job api.Job) *api.JobSubmission {
	if len(job.JobSubmissions) == 0 {
		return nil
	}
	return &job.JobSubmissions[len(job.JobSubmissions)-1]
}

// merge takes the only job's data into the run's row. What the run itself
// has to say ("retrying", "terminating") comes before the job's status.
func (l runLine) merge(run api.Run, job api.Job, verbose bool) runLine {
	l.job, l.probes = lastSubmission(job), probeGlyphs(job)
	if l.job != nil && jobSpeaks(run, *l.job) {
		l.status = jobStatus(*l.job, verbose)
	}
	if l.job != nil && l.err == "" {
		l.err = jobError(*l.job)
	}
	l.style = statusStyle(l.status, run.Status.Finished())
	return l
}

func jobSpeaks(run api.Run, job api.JobSubmission) bool {
	if run.StatusMessage != "" && run.StatusMessage != string(run.Status) && run.StatusMessage != "pulling" {
		return false
	}
	switch run.Status {
	case api.RunPending, api.RunTerminating:
		return false
	case api.RunSubmitted:
		return !job.Status.Finished()
	}
	return true
}

func jobStatus(job api.JobSubmission, verbose bool) string {
	status := job.StatusMessage
	if status == "" {
		status = string(job.Status)
	}
	if job.Status == api.JobPulling && job.ImagePullProgress != nil {
		status += " " + PullProgress(*job.ImagePullProgress)
	}
	if verbose && job.InactivitySecs != nil && *job.InactivitySecs > 0 && !job.Status.Finished() {
		status += " (inactive for " + LongDuration(*job.InactivitySecs) + ")"
	}
	return status
}

// glyphGroup is how many probes stand together.
const glyphGroup = 5

// probeGlyphs shows each probe of a running job: ready, on the way, or failing.
func probeGlyphs(job api.Job) string {
	last := lastSubmission(job)
	if last == nil || last.Status != api.JobRunning {
		return ""
	}
	var b strings.Builder
	for i, probe := range last.Probes {
		if i >= len(job.JobSpec.Probes) {
			break
		}
		if i > 0 && i%glyphGroup == 0 {
			b.WriteByte(' ')
		}
		switch {
		case probe.SuccessStreak >= job.JobSpec.Probes[i].ReadyAfter:
			b.WriteString("✓")
		case probe.SuccessStreak > 0:
			b.WriteString("~")
		default:
			b.WriteString("×")
		}
	}
	return b.String()
}

// jobError is the kind of a failure and what the server says about it.
func jobError(job api.JobSubmission) string {
	message := strings.Join(strings.Fields(deref(job.TerminationReasonMessage)), " ")
	switch kind := deref(job.Error); {
	case kind == "":
		return message
	case message == "":
		return kind
	default:
		return kind + ": " + message
	}
}

func jobLine(job api.Job, name string, verbose bool) runLine {
	l := runLine{name: name, dim: true, probes: probeGlyphs(job)}
	if last := lastSubmission(job); last != nil {
		l.job, l.submitted = last, last.SubmittedAt.Time
		l.status, l.err = jobStatus(*last, verbose), jobError(*last)
		l.style = statusStyle(l.status, last.Status.Finished())
	}
	return l
}

func (l runLine) cells(verbose, probes bool, when func(time.Time) string) []term.Cell {
	backend, gpu, price, machine, resources := "", "-", "-", "", "-"
	if l.job != nil && l.job.JobProvisioningData != nil {
		p := l.job.JobProvisioningData
		have := p.InstanceType.Resources
		if rd := l.job.JobRuntimeData; rd != nil && rd.Offer != nil {
			have = rd.Offer.Instance.Resources
		}
		backend, resources = Place(p.Backend, p.Region), Machine(have)
		cost := p.Price
		if rd := l.job.JobRuntimeData; rd != nil && rd.Offer != nil {
			cost = rd.Offer.Price
		}
		price = Price(cost, 4)
		if g := GPUs(have.GPUs); g != "" {
			gpu = g
		}
		if have.Spot {
			price += " (spot)"
		}
		machine = machineName(*p, l.job.JobRuntimeData)
	}
	submitted := ""
	if !l.submitted.IsZero() {
		submitted = when(l.submitted)
	}
	texts := []string{l.name, backend, gpu, price, l.status}
	if probes {
		texts = append(texts, l.probes)
	}
	texts = append(texts, submitted)
	status := 4
	if verbose {
		texts = []string{l.name, backend, resources, machine, price, l.status, l.probes, submitted, l.err}
		status = 5
	}
	cells := make([]term.Cell, len(texts))
	for i, text := range texts {
		cells[i] = term.T(text)
		if l.dim {
			cells[i].Style = term.Secondary
		}
	}
	cells[0].Style = cmp.Or(cells[0].Style, term.Bold)
	cells[status].Style = l.style
	return cells
}

// machineName names the machine and what is special about this use of it. A
// job that no container isolates says so.
func machineName(p api.JobProvisioningData, rd *api.JobRuntimeData) string {
	name := p.InstanceType.Name
	if rd != nil && rd.Offer != nil && rd.Offer.TotalBlocks > 1 {
		name += fmt.Sprintf(" (%d/%d)", rd.Offer.Blocks, rd.Offer.TotalBlocks)
	}
	if p.Reservation != nil {
		name += " (" + *p.Reservation + ")"
	}
	if p.Backend == "remote" && !p.Dockerized {
		name += " (process, no isolation)"
	}
	return name
}

// statusStyle colours a status word, bold while it can still change.
func statusStyle(status string, finished bool) term.Style {
	word, _, _ := strings.Cut(status, " ")
	style := term.Plain
	switch word {
	case "provisioning", "terminating":
		style = term.Blue
	case "pulling", "running":
		style = term.Green
	case "failed", "error":
		style = term.Red
	case "no":
		style = term.Gold
		if status == "no fleets" {
			style = term.Red
		}
	case "interrupted", "aborted":
		style = term.Gold
	case "exited":
		if status != "exited (0)" {
			style = term.Red
		}
	}
	if !finished {
		style = style.With(term.Bold)
	}
	return style
}
