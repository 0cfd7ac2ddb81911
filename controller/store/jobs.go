package store

import (
	"database/sql"
	"fmt"
	"strconv"
)

var jobs = newTable("jobs", func(r *Job, c *codec) []column {
	return []column{
		col("id", &r.ID),
		fixed("run_id", &r.RunID),
		fixed("project_id", &r.ProjectID),
		fixed("run_name", &r.RunName),
		fixed("replica_num", &r.ReplicaNum),
		fixed("job_num", &r.JobNum),
		fixed("submission_num", &r.SubmissionNum),
		col("deployment_num", &r.DeploymentNum),
		fixed("submitted_at", instant{&r.SubmittedAt}),
		col("last_processed_at", instant{&r.LastProcessedAt}),
		col("finished_at", maybeInstant{&r.FinishedAt}),
		col("status", &r.Status),
		col("reason", &r.Reason),
		col("reason_message", &r.ReasonMessage),
		col("exit_status", &r.ExitStatus),
		fixed("spec", sealed(&r.Spec, c)),
		col("provisioning", plain(&r.Provisioning, c)),
		col("runtime", plain(&r.Runtime, c)),
		col("instance_id", &r.InstanceID),
		col("used_instance_id", &r.UsedInstanceID),
		col("blocks", &r.Blocks),
		col("stop", plain(&r.Stop, c)),
		col("task", plain(&r.Task, c)),
		col("running_at", maybeInstant{&r.RunningAt}),
		col("disconnected_at", maybeInstant{&r.DisconnectedAt}),
		col("version", &r.Version),
	}
})

const jobOrder = " ORDER BY run_id, replica_num, job_num, submission_num"

// InsertJob adds a job submission; [ErrExists] if it is there already.
func (tx *Tx) InsertJob(j *Job) error { return jobs.add(tx, j) }

// UpdateJob writes a job, all but its run, numbers, time of submission and spec,
// which never change, if nobody else did since j was read, and adds one to
// j.Version; else [ErrConflict].
func (tx *Tx) UpdateJob(j *Job) error { return jobs.save(tx, j, &j.Version) }

// Job finds a job submission by id.
func (tx *Tx) Job(id string) (Job, error) { return jobs.one(tx, " WHERE id = $1", id) }

// JobLog tells where the log of a job submission is: in which project, and for
// which run it was made.
func (tx *Tx) JobLog(id string) (projectID, run string, err error) {
	found := false
	err = tx.query(func(rows *sql.Rows) error {
		found = true
		return rows.Scan(&projectID, &run)
	}, "SELECT project_id, run_name FROM jobs WHERE id = $1", id)
	if err == nil && !found {
		err = ErrNotFound
	}
	if err != nil {
		return "", "", fmt.Errorf("find job: %w", err)
	}
	return projectID, run, nil
}

// JobsByRun lists all submissions of a run's jobs, ordered by replica, job
// and submission.
func (tx *Tx) JobsByRun(runID string) ([]Job, error) {
	return jobs.find(tx, " WHERE run_id = $1"+jobOrder, runID)
}

// LatestJobsByRun lists the last submission of each job of a run.
func (tx *Tx) LatestJobsByRun(runID string) ([]Job, error) { return tx.JobsByRuns([]string{runID}, 1) }

// JobsByRuns lists the jobs of many runs with their newest `submissions`
// submissions, 0 for all, ordered by run, replica, job and submission.
func (tx *Tx) JobsByRuns(runIDs []string, submissions int) ([]Job, error) {
	var w where
	w.in("run_id", nonNil(runIDs))
	if submissions <= 0 {
		return jobs.find(tx, w.String()+jobOrder, w.args...)
	}
	tail := " WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY run_id, replica_num, job_num" +
		" ORDER BY submission_num DESC) AS age FROM jobs" + w.String() + ") AS ranked WHERE age <= " + strconv.Itoa(submissions) + ")"
	return jobs.find(tx, tail+jobOrder, w.args...)
}

// JobsOnInstance lists the jobs that hold a share of the instance now.
func (tx *Tx) JobsOnInstance(instanceID string) ([]Job, error) {
	return jobs.find(tx, " WHERE instance_id = $1"+jobOrder, instanceID)
}

// JobsOnInstances is JobsOnInstance for many instances.
func (tx *Tx) JobsOnInstances(instanceIDs []string) ([]Job, error) {
	var w where
	w.in("instance_id", nonNil(instanceIDs))
	return jobs.find(tx, w.String()+jobOrder, w.args...)
}

// ClaimingJobs lists the jobs of a project that are submitted and hold an
// instance whose machine is being made.
func (tx *Tx) ClaimingJobs(projectID string) ([]Job, error) {
	return jobs.find(tx, " WHERE project_id = $1 AND status = 'submitted' AND instance_id IS NOT NULL"+jobOrder, projectID)
}

// WaitingJobs lists the jobs of a project that are submitted and hold no
// instance, oldest first.
func (tx *Tx) WaitingJobs(projectID string) ([]Job, error) {
	return jobs.find(tx, " WHERE project_id = $1 AND status = 'submitted' AND instance_id IS NULL ORDER BY submitted_at, id", projectID)
}

// DeleteJob deletes a job submission and its work, if they are there.
func (tx *Tx) DeleteJob(id string) error {
	if _, err := tx.exec("DELETE FROM jobs WHERE id = $1", id); err != nil {
		return fmt.Errorf("delete job: %w", err)
	}
	return tx.DropWork(Key{KindJob, id})
}
