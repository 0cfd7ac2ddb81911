package tunnel

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"dstack/protocol/api"
)

// agentPort is the port of the agent's SSH server in a container.
const agentPort = 10022

// Hop is one SSH server on the way to a job, as the user's ssh knows it.
type Hop struct {
	// Alias is the name in the user's SSH configuration.
	Alias string
	Host  string
	Port  int
	// User is the login of the user's own ssh.
	User string
	// TunnelUser is the login of tunnels where it is another one; empty means User.
	TunnelUser string
	// Foreign hops do not know the user's dstack key: what opens them is in
	// the user's own SSH configuration or agent.
	Foreign bool
	// Verified hops have a host key that is checked against known_hosts.
	Verified bool
}

// Login is the user that a tunnel logs in as.
func (h Hop) Login() string {
	if h.TunnelUser != "" {
		return h.TunnelUser
	}
	return h.User
}

// Addr is "host:port".
func (h Hop) Addr() string { return net.JoinHostPort(h.Host, strconv.Itoa(h.Port)) }

// ErrNotProvisioned says that a job has no host yet.
var ErrNotProvisioned = errors.New("Failed to attach. The run is not provisioned yet.") //nolint:staticcheck // the text of 0.22.5

// Alias is the name under which the user's ssh reaches a job.
func Alias(run string, job api.JobSpec) string {
	if job.ReplicaNum == 0 && job.JobNum == 0 || job.JobName == "" {
		return run
	}
	return job.JobName
}

// Route lists the SSH servers on the way to a job's last submission, in the
// order of dialling; the last is the job's own (spec: cli.md 12.4).
func Route(run string, job api.Job) ([]Hop, error) {
	if len(job.JobSubmissions) == 0 {
		return nil, ErrNotProvisioned
	}
	sub := job.JobSubmissions[len(job.JobSubmissions)-1]
	at, alias := sub.JobProvisioningData, Alias(run, job.JobSpec)
	if info := job.JobConnectionInfo; info != nil && info.SSHProxyHostname != nil && info.SSHProxyUpstreamID != nil {
		upstream := *info.SSHProxyUpstreamID
		return []Hop{{
			Alias: alias, Host: *info.SSHProxyHostname, Port: portOr(info.SSHProxyPort, 22),
			User: upstream, TunnelUser: upstream + "_root", Verified: true,
		}}, nil
	}
	if at == nil || at.Hostname == nil || *at.Hostname == "" {
		return nil, ErrNotProvisioned
	}
	agent := Hop{
		Alias: alias, Host: *at.Hostname, Port: portOr(at.SSHPort, 22),
		User: Login(job.JobSpec, sub.JobRuntimeData), TunnelUser: "root",
	}
	if !at.Dockerized {
		if p := at.SSHProxy; p != nil {
			jump := Hop{Alias: alias + "-jump-host", Host: p.Hostname, Port: p.Port, User: p.Username}
			return []Hop{jump, agent}, nil
		}
		return []Hop{agent}, nil
	}
	host := Hop{Alias: alias + "-host", Host: *at.Hostname, Port: portOr(at.SSHPort, 22), User: at.Username}
	agent.Host, agent.Port = "localhost", agentPort
	if rt := sub.JobRuntimeData; rt != nil {
		if port, ok := rt.Ports[strconv.Itoa(agentPort)]; ok {
			agent.Port = port
		}
	}
	if p := at.SSHProxy; p != nil {
		jump := Hop{Alias: alias + "-jump-host", Host: p.Hostname, Port: p.Port, User: p.Username, Foreign: true}
		return []Hop{jump, host, agent}, nil
	}
	return []Hop{host, agent}, nil
}

func portOr(port *int, other int) int {
	if port == nil || *port == 0 {
		return other
	}
	return *port
}

// Login is the user that a job runs as, and its own user's name in ssh.
func Login(spec api.JobSpec, rt *api.JobRuntimeData) string {
	if rt != nil && rt.Username != nil && *rt.Username != "" {
		return *rt.Username
	}
	if spec.User != nil && spec.User.Username != nil && *spec.User.Username != "" {
		return *spec.User.Username
	}
	return "root"
}

// JobError says that a run has no such job.
type JobError struct {
	// Replica is nil for any running one.
	Replica *int
	Job     int
}

func (e *JobError) Error() string {
	replica := "<any running>"
	if e.Replica != nil {
		replica = strconv.Itoa(*e.Replica)
	}
	return fmt.Sprintf("Failed to find replica=%s job=%d", replica, e.Job)
}

// Choose finds a job of a run: that of the replica, or without one that of
// any running replica, else of the lowest. It fails with a *[JobError].
func Choose(run api.Run, replica *int, num int) (api.Job, error) {
	var found *api.Job
	for i := range run.Jobs {
		job := &run.Jobs[i]
		if job.JobSpec.JobNum != num || replica != nil && job.JobSpec.ReplicaNum != *replica {
			continue
		}
		switch {
		case found == nil,
			running(*job) && !running(*found),
			running(*job) == running(*found) && job.JobSpec.ReplicaNum < found.JobSpec.ReplicaNum:
			found = job
		}
	}
	if found == nil {
		return api.Job{}, &JobError{Replica: replica, Job: num}
	}
	return *found, nil
}

func running(job api.Job) bool {
	n := len(job.JobSubmissions)
	return n > 0 && job.JobSubmissions[n-1].Status == api.JobRunning
}
