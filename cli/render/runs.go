package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"dstack/cli/term"
	"dstack/protocol/api"
)

// RunsTable is the table of `ps` and of a run that is being applied. When
// formats the time of submission.
func RunsTable(runs []api.Run, verbose bool, when func(time.Time) string) term.Table {
	t := term.Table{Columns: []term.Column{
		{Title: "NAME"}, {Title: "BACKEND"}, {Title: "GPU"}, {Title: "PRICE", Wrap: true},
		{Title: "STATUS", Wrap: true}, {Title: "SUBMITTED"},
	}}
	if verbose {
		t.Columns = []term.Column{
			{Title: "NAME"}, {Title: "BACKEND", Wrap: true}, {Title: "RESOURCES", Wrap: true},
			{Title: "INSTANCE TYPE", Wrap: true}, {Title: "PRICE", Wrap: true}, {Title: "STATUS", Wrap: true},
			{Title: "PROBES"}, {Title: "SUBMITTED"}, {Title: "ERROR", Wrap: true},
		}
	}
	for _, run := range runs {
		for _, line := range runLines(run) {
			t.Rows = append(t.Rows, term.Row{Cells: line.cells(verbose, when)})
		}
	}
	return t
}

// runLine is one row: a run with its only job, a run alone, or a job alone.
type runLine struct {
	name      string
	submitted time.Time
	status    string
	style     term.Style
	job       *api.JobSubmission
	dim       bool
	err       string
}

func runLines(run api.Run) []runLine {
	jobs := sortedJobs(run.Jobs)
	base := runLine{
		name: deref(run.RunSpec.RunName), submitted: run.SubmittedAt.Time,
		status: run.StatusMessage, err: deref(run.Error),
	}
	if base.status == "" {
		base.status = string(run.Status)
	}
	switch len(jobs) {
	case 0:
		base.style = statusStyle(base.status, run.Status.Finished())
		return []runLine{base}
	case 1:
		return []runLine{base.merge(run, jobs[0])}
	}
	base.style = statusStyle(base.status, run.Status.Finished())
	lines := []runLine{base}
	replicas := map[int]bool{}
	for _, job := range jobs {
		replicas[job.JobSpec.ReplicaNum] = true
	}
	for _, job := range jobs {
		lines = append(lines, jobLine(job, len(replicas) > 1))
	}
	return lines
}

func sortedJobs(jobs []api.Job) []api.Job {
	return slices.SortedStableFunc(slices.Values(jobs), func(a, b api.Job) int {
		return cmp.Or(
			cmp.Compare(a.JobSpec.NodeGroupIndex, b.JobSpec.NodeGroupIndex),
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
func (l runLine) merge(run api.Run, job api.Job) runLine {
	l.job = lastSubmission(job)
	if l.job != nil && jobSpeaks(run, *l.job) {
		l.status = jobStatus(*l.job)
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

func jobStatus(job api.JobSubmission) string {
	status := job.StatusMessage
	if status == "" {
		status = string(job.Status)
	}
	if job.Status == api.JobPulling && job.ImagePullProgress != nil {
		status += " " + PullProgress(*job.ImagePullProgress)
	}
	return status
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

func jobLine(job api.Job, showReplica bool) runLine {
	var name []string
	if showReplica {
		name = append(name, fmt.Sprintf("replica=%d", job.JobSpec.ReplicaNum))
	}
	if job.JobSpec.JobsPerReplica > 1 || !showReplica {
		name = append(name, fmt.Sprintf("job=%d", job.JobSpec.JobNum))
	}
	l := runLine{name: "   " + strings.Join(name, " "), dim: true}
	if last := lastSubmission(job); last != nil {
		l.job, l.submitted = last, last.SubmittedAt.Time
		l.status, l.err = jobStatus(*last), jobError(*last)
		l.style = statusStyle(l.status, last.Status.Finished())
	}
	return l
}

func (l runLine) cells(verbose bool, when func(time.Time) string) []term.Cell {
	backend, gpu, price, machine, resources := "", "-", "-", "", "-"
	if l.job != nil && l.job.JobProvisioningData != nil {
		p := l.job.JobProvisioningData
		have := p.InstanceType.Resources
		if rd := l.job.JobRuntimeData; rd != nil && rd.Offer != nil {
			have = rd.Offer.Instance.Resources
		}
		backend, price, resources = Place(p.Backend, p.Region), Price(p.Price, 4), Machine(have)
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
	texts := []string{l.name, backend, gpu, price, l.status, submitted}
	status := 4
	if verbose {
		texts = []string{l.name, backend, resources, machine, price, l.status, "", submitted, l.err}
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
