package tunnel_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/cli/tunnel"
	"dstack/protocol/api"
)

func jobAt(at *api.JobProvisioningData, rt *api.JobRuntimeData) api.Job {
	return api.Job{
		JobSpec:        api.JobSpec{JobName: "run-0-0"},
		JobSubmissions: []api.JobSubmission{{JobProvisioningData: at, JobRuntimeData: rt}},
	}
}

func TestRoute(t *testing.T) {
	at := func(dockerized bool, proxy *api.SSHConnectionParams) *api.JobProvisioningData {
		return &api.JobProvisioningData{Hostname: new("192.0.2.7"), SSHPort: new(2200), Username: "ubuntu", Dockerized: dockerized, SSHProxy: proxy}
	}
	proxy := &api.SSHConnectionParams{Hostname: "jump.example", Port: 2222, Username: "me"}
	ports := &api.JobRuntimeData{Ports: map[string]int{"10022": 40022}, Username: new("worker")}
	host := tunnel.Hop{Alias: "run-host", Host: "192.0.2.7", Port: 2200, User: "ubuntu"}
	behind := tunnel.Hop{Alias: "run", Host: "localhost", Port: 40022, User: "worker", TunnelUser: "root"}
	alone := tunnel.Hop{Alias: "run", Host: "192.0.2.7", Port: 2200, User: "root", TunnelUser: "root"}
	proxied := jobAt(at(true, nil), ports)
	proxied.JobConnectionInfo = &api.JobConnectionInfo{SSHProxyHostname: new("ssh.example"), SSHProxyUpstreamID: new("u1")}
	second := jobAt(at(true, nil), nil)
	second.JobSpec.JobName, second.JobSpec.JobNum = "run-1-0", 1
	for name, tt := range map[string]struct {
		job  api.Job
		want []tunnel.Hop
	}{
		"docker on a host":       {jobAt(at(true, nil), ports), []tunnel.Hop{host, behind}},
		"behind a fleet's proxy": {jobAt(at(true, proxy), ports), []tunnel.Hop{{Alias: "run-jump-host", Host: "jump.example", Port: 2222, User: "me", Foreign: true}, host, behind}},
		"a container":            {jobAt(at(false, nil), nil), []tunnel.Hop{alone}},
		"a container behind a proxy": {jobAt(at(false, proxy), nil), []tunnel.Hop{
			{Alias: "run-jump-host", Host: "jump.example", Port: 2222, User: "me"}, alone,
		}},
		"the server's SSH proxy": {proxied, []tunnel.Hop{{Alias: "run", Host: "ssh.example", Port: 22, User: "u1", TunnelUser: "u1_root", Verified: true}}},
		"another node": {second, []tunnel.Hop{
			{Alias: "run-1-0-host", Host: "192.0.2.7", Port: 2200, User: "ubuntu"},
			{Alias: "run-1-0", Host: "localhost", Port: 10022, User: "root", TunnelUser: "root"},
		}},
	} {
		got, err := tunnel.Route("run", tt.job)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, job := range []api.Job{{}, jobAt(nil, nil), jobAt(&api.JobProvisioningData{Hostname: new("")}, nil)} {
		if _, err := tunnel.Route("run", job); err != tunnel.ErrNotProvisioned { //nolint:errorlint // shown as it is
			t.Errorf("error = %v", err)
		}
	}
}

func TestChoose(t *testing.T) {
	job := func(replica, num int, status api.JobStatus) api.Job {
		return api.Job{JobSpec: api.JobSpec{ReplicaNum: replica, JobNum: num}, JobSubmissions: []api.JobSubmission{{Status: status}}}
	}
	run := api.Run{Jobs: []api.Job{
		job(2, 0, api.JobRunning), job(0, 0, api.JobFailed), job(1, 0, api.JobRunning), job(1, 1, api.JobRunning),
	}}
	for _, tt := range []struct {
		replica   *int
		num, want int
		fault     string
	}{
		{nil, 0, 1, ""},
		{new(0), 0, 0, ""},
		{new(2), 0, 2, ""},
		{nil, 1, 1, ""},
		{new(3), 0, 0, "Failed to find replica=3 job=0"},
		{nil, 2, 0, "Failed to find replica=<any running> job=2"},
	} {
		got, err := tunnel.Choose(run, tt.replica, tt.num)
		fault := ""
		if err != nil {
			fault = err.Error()
		}
		if fault != tt.fault || err == nil && (got.JobSpec.ReplicaNum != tt.want || got.JobSpec.JobNum != tt.num) {
			t.Errorf("replica %v job %d: got replica %d, %q", tt.replica, tt.num, got.JobSpec.ReplicaNum, fault)
		}
	}
}
