package jobspec

import (
	"testing"

	"golang.org/x/crypto/ssh"

	"dstack/controller/store"
)

// TestClusterKey: all nodes of a submission have one key, and nobody else has.
func TestClusterKey(t *testing.T) {
	t.Parallel()
	one, other := store.Project{PrivateKey: "secret"}, store.Project{PrivateKey: "another"}
	key := clusterKey(one, "j1")
	if signer, err := ssh.ParsePrivateKey([]byte(key)); err != nil || signer.PublicKey().Type() != ssh.KeyAlgoED25519 {
		t.Fatalf("not an Ed25519 key: %v", err)
	}
	if clusterKey(one, "j1") != key {
		t.Error("the nodes of a replica have different keys")
	}
	if clusterKey(one, "j2") == key {
		t.Error("the next submission has the same key")
	}
	if clusterKey(other, "j1") == key {
		t.Error("another project has the same key")
	}
	if clusterKey(store.Project{}, "j1") != "" {
		t.Error("a key from no secret")
	}
}

// TestTaskOfNode: nodes reach each other at their addresses, users come
// through the host.
func TestTaskOfNode(t *testing.T) {
	t.Parallel()
	p := placeOf(host(), 1)
	p.Project.PrivateKey = "secret"
	p.Nodes = []Node{{InternalIP: "10.0.0.4", JobID: "j0"}, {JobNum: 1, InternalIP: "10.0.0.5", GPUs: 2, JobID: "j1"}}
	p.Job.JobNum = 1
	job := Task(p, Options{}).Job
	expect(t, "listens", []string{job.SSHListen, job.ClusterListen}, []string{"127.0.0.1:0", "10.0.0.5:10022"})
	expect(t, "nodes", []any{job.NodesIPs, job.MasterIP, job.NodesNum, job.NodeRank, job.GPUsPerNode, job.GPUsNum, job.NodesGPUs},
		[]any{[]string{"10.0.0.4", "10.0.0.5"}, "10.0.0.4", 2, 1, 2, 2, []int{0, 2}})
	expect(t, "key of the replica", job.ClusterKey, clusterKey(p.Project, "j0"))

	p.Job.Runtime.NetworkMode = "bridge"
	job = Task(p, Options{NetworkMode: 3}).Job
	expect(t, "in a bridge", []string{job.SSHListen, job.ClusterListen}, []string{":10022", ""})

	p.Nodes = p.Nodes[1:]
	expect(t, "alone", Task(p, Options{}).Job.ClusterKey, "")
}
