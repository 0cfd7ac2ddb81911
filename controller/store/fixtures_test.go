package store

import (
	"path/filepath"
	"testing"
	"time"

	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/hostapi"
)

func at(sec int) time.Time { return time.Date(2026, 1, 2, 3, 4, sec, 123456000, time.UTC) }

func ptr[T any](v T) *T { return &v }

// openTest opens a store of its own for a test.
func openTest(t testing.TB, opts Options) *Store {
	t.Helper()
	if !opts.Memory && opts.Path == "" {
		opts.Path = filepath.Join(t.TempDir(), "data", "sqlite.db")
	}
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func write(t testing.TB, s *Store, fn func(*Tx) error) {
	t.Helper()
	if err := s.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, s *Store, fn func(*Tx) error) {
	t.Helper()
	if err := s.Read(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func testUser() User {
	return User{
		ID: "u1", Name: "Admin", GlobalRole: "admin", Email: ptr("a@b"), Active: true, Token: "token-1",
		PublicKey: "ssh-rsa A admin\n", PrivateKey: "PEM of user", CreatedAt: at(1),
	}
}

func testProject() Project {
	return Project{ID: "p1", Name: "Main", OwnerID: "u1", PublicKey: "ssh-rsa B\n", PrivateKey: "PEM of project", CreatedAt: at(2)}
}

func testFleet() Fleet {
	return Fleet{
		ID: "f1", ProjectID: "p1", Name: "lab", Status: api.FleetActive, CreatedAt: at(3), LastProcessedAt: at(3),
		Spec: api.FleetSpec{ConfigurationPath: ptr("fleet.dstack.yml"), Configuration: config.Fleet{Type: "fleet", Name: ptr("lab"), Blocks: config.Blocks{Count: 1}}},
	}
}

func testRun() Run {
	return Run{
		ID: "r1", ProjectID: "p1", UserID: "u1", FleetID: ptr("f1"), Name: "train", SubmittedAt: at(4), LastProcessedAt: at(5),
		Status: api.RunRunning, Reason: ptr(api.ReasonJobFailed), Spec: testRunSpec(), Priority: 3, DeploymentNum: 1,
		Resubmissions: 2, NextTriggerAt: ptr(at(9)), Stop: ptr(api.ReasonStoppedByUser),
	}
}

func testRunSpec() api.RunSpec {
	return api.RunSpec{
		RunName: ptr("train"), RepoID: ptr("repo-1"), ConfigurationPath: ptr(".dstack.yml"),
		Configuration: config.Run{Task: &config.Task{
			Type: "task", Commands: []string{"python train.py"},
			RunBase: config.RunBase{Name: ptr("train"), HomeDir: "/root", Env: config.Env{"TOKEN": {Value: "hush-hush"}}},
		}},
	}
}

func testInstance() Instance {
	return Instance{
		ID: "i1", ProjectID: "p1", FleetID: "f1", Name: "lab-0", Backend: "remote", Status: api.InstanceBusy,
		Reason: ptr(api.ReasonInstanceError), ReasonMessage: ptr("why"), CreatedAt: at(6), StartedAt: ptr(at(7)), LastProcessedAt: at(8),
		Hostname: "10.0.0.5", Region: "remote", Price: 1.5,
		Type:      &api.InstanceType{Name: "instance", Resources: api.Resources{CPUs: 4, MemoryMiB: 8192, GPUs: []api.GPU{}}},
		GPUDriver: &api.GPUDriverInfo{Version: "570"}, BlocksWanted: config.Blocks{Count: 2}, TotalBlocks: 2, BusyBlocks: 1,
		Access:   Access{Host: "10.0.0.5", Port: 22, User: "ubuntu", Keys: []string{"PEM of host"}, Jump: &Jump{Host: "j", Keys: []string{"PEM of jump"}}},
		HostKeys: []string{"ssh-ed25519 AAAA"}, InternalIP: ptr("192.168.0.1"), Info: &hostapi.Info{Version: "1", HostID: "h"},
		Unreachable: true, UnreachableSince: ptr(at(9)), HostID: "h", Seq: 42, Orphans: []string{"x"}, IdleSince: ptr(at(10)),
		Wish: &Wish{JobID: "j1", User: "admin", Nodes: 2, IdleSeconds: -1}, Tried: []Try{{Backend: "aws", Region: "r", Why: "none left"}},
		Machine: &Machine{Backend: "aws", Token: "t", ID: "i-1", HostKey: "PEM of machine", AskedAt: at(11), Offer: api.Offer{Backend: "aws", Price: 1}}, Unhealthy: true,
	}
}

func testJob() Job {
	return Job{
		ID: "j1", RunID: "r1", ProjectID: "p1", RunName: "train", SubmissionNum: 0, SubmittedAt: at(10), LastProcessedAt: at(11),
		FinishedAt: ptr(at(12)), Status: api.JobRunning, Reason: ptr(api.ReasonContainerError), ReasonMessage: ptr("m"), ExitStatus: ptr(3),
		Spec:         api.JobSpec{JobName: "train-0-0", Commands: []string{"/bin/sh", "-c", "x"}, Env: map[string]string{"A": "1"}, ImageName: "busybox"},
		Provisioning: &api.JobProvisioningData{Backend: "remote", Username: "root"},
		Runtime:      &api.JobRuntimeData{NetworkMode: "host", Ports: map[string]int{"10022": 1}},
		InstanceID:   ptr("i1"), UsedInstanceID: ptr("i1"), Blocks: 1,
		Stop: &JobStop{Reason: api.ReasonTerminatedByUser, Grace: 10, At: at(13)},
		Task: &hostapi.Task{ID: "j1", State: hostapi.TaskRunning}, RunningAt: ptr(at(14)), DisconnectedAt: ptr(at(15)),
	}
}

// seed fills a store with one row of each kind.
func seed(tx *Tx) error {
	u, p, f, r, i, j := testUser(), testProject(), testFleet(), testRun(), testInstance(), testJob()
	for _, step := range []func() error{
		func() error { return tx.InsertUser(&u) },
		func() error { return tx.InsertProject(&p) },
		func() error { return tx.SetMembers("p1", []Member{{UserID: "u1", Role: "admin"}}) },
		func() error { return tx.InsertFleet(&f) },
		func() error { return tx.InsertRun(&r) },
		func() error { return tx.InsertInstance(&i) },
		func() error { return tx.InsertJob(&j) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
