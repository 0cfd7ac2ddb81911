package legacy

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"dstack/controller/auth"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// What follows turns one row of 0.22.5 into one of ours; r.err says whether it
// could.

// remote is the backend of hosts that are given.
const remote = "remote"

func user(r *record) store.User {
	u := store.User{
		ID: r.id("id"), Name: r.text("name"), GlobalRole: r.name("global_role"), Email: r.maybe("email"), Active: r.flag("active"),
		Token: r.secret("token"), CreatedAt: r.time("created_at"), Deleted: r.flag("deleted"), OriginalName: r.maybe("original_name"),
	}
	if r.has("ssh_public_key") && r.has("ssh_private_key") {
		u.PublicKey, u.PrivateKey = r.text("ssh_public_key"), r.text("ssh_private_key")
		return u
	}
	// A user of an old version that made none.
	var err error
	if u.PublicKey, u.PrivateKey, err = auth.NewKeyPair(u.Name); err != nil {
		r.fail("ssh_private_key", err)
	}
	return u
}

func project(r *record) store.Project {
	return store.Project{
		ID: r.id("id"), Name: r.text("name"), OwnerID: r.id("owner_id"), IsPublic: r.flag("is_public"), TemplatesRepo: r.maybe("templates_repo"),
		PublicKey: r.text("ssh_public_key"), PrivateKey: r.text("ssh_private_key"), CreatedAt: r.time("created_at"),
		Deleted: r.flag("deleted"), OriginalName: r.maybe("original_name"),
	}
}

func publicKey(r *record) store.PublicKey {
	k := store.PublicKey{
		ID: r.id("id"), UserID: r.id("user_id"), Name: r.text("name"), Type: r.text("type"), Fingerprint: r.text("fingerprint"), AddedAt: r.time("created_at"),
	}
	// Ours has no comment.
	fields := strings.Fields(r.text("key"))
	k.Key = strings.Join(fields[:min(2, len(fields))], " ")
	return k
}

func secret(r *record) store.Secret {
	return store.Secret{
		ID: r.id("id"), ProjectID: r.id("project_id"), Name: r.text("name"), Value: r.secret("value"),
		CreatedAt: r.time("created_at"), UpdatedAt: r.time("updated_at"),
	}
}

// backend puts together what the user configured: 0.22.5 keeps the credentials
// apart.
func backend(r *record) store.Backend {
	b := store.Backend{ID: r.id("id"), ProjectID: r.id("project_id"), Type: r.name("type")}
	plain, sealed := "source_config", "source_auth"
	if !r.has(plain) || !r.has(sealed) {
		plain, sealed = "config", "auth"
	}
	var all map[string]json.RawMessage
	r.json(plain, &all)
	creds := r.secret(sealed)
	if r.err != nil {
		return b
	}
	var err error
	// Where the credentials belong depends on the type.
	for _, field := range []string{"creds", "kubeconfig"} {
		trial := map[string]json.RawMessage{field: json.RawMessage(creds)}
		for name, value := range all {
			trial[name] = value
		}
		var text []byte
		if text, err = json.Marshal(trial); err != nil {
			continue
		}
		var parsed config.Backend
		if parsed, err = config.DecodeBackend(text); err != nil {
			continue
		}
		if b.Spec, err = json.Marshal(parsed); err == nil {
			return b
		}
	}
	r.fail(plain, fmt.Errorf("%w: %w", errValue, err))
	return b
}

func repo(r *record) store.Repo {
	return store.Repo{ID: r.id("id"), ProjectID: r.id("project_id"), RepoID: r.text("name"), Info: []byte(r.text("info"))}
}

func repoCreds(r *record) store.RepoCreds {
	c := store.RepoCreds{RepoPK: r.id("repo_id"), UserID: r.id("user_id")}
	r.decode("creds", r.secret("creds"), &c.Creds)
	return c
}

func fleet(r *record) store.Fleet {
	f := store.Fleet{
		ID: r.id("id"), ProjectID: r.id("project_id"), Name: r.text("name"), Status: api.FleetStatus(r.name("status")), StatusMessage: r.maybe("status_message"),
		CreatedAt: r.time("created_at"), LastProcessedAt: r.time("last_processed_at"), Deleted: r.flag("deleted"),
		Attempts: r.count("consolidation_attempt"), AttemptedAt: r.maybeTime("last_consolidated_at"),
	}
	r.json("spec", &f.Spec)
	return f
}

// connection is what 0.22.5 keeps in instances.remote_connection_info.
type connection struct {
	Host      string            `json:"host"`
	Port      int               `json:"port"`
	User      string            `json:"ssh_user"`
	Keys      []sshKey          `json:"ssh_keys"`
	Proxy     *proxy            `json:"ssh_proxy"`
	ProxyKeys []sshKey          `json:"ssh_proxy_keys"`
	Env       map[string]string `json:"env"`
}

type sshKey struct {
	Private string `json:"private"`
}

type proxy struct {
	Hostname string `json:"hostname"`
	Username string `json:"username"`
	Port     int    `json:"port"`
}

func (c connection) access() store.Access {
	a := store.Access{Host: c.Host, Port: c.Port, User: c.User, Keys: private(c.Keys), Env: c.Env}
	if c.Proxy != nil {
		a.Jump = &store.Jump{Host: c.Proxy.Hostname, Port: c.Proxy.Port, User: c.Proxy.Username, Keys: private(c.ProxyKeys)}
	}
	return a
}

func private(keys []sshKey) []string {
	var out []string
	for _, k := range keys {
		if k.Private != "" {
			out = append(out, k.Private)
		}
	}
	return out
}

// instance is a host of an SSH fleet, or a machine of a cloud that is gone.
func instance(r *record, f *store.Fleet, now time.Time) store.Instance {
	i := store.Instance{
		ID: r.id("id"), ProjectID: r.id("project_id"), FleetID: f.ID, Name: r.text("name"), Num: r.number("instance_num"),
		Status: api.InstanceStatus(r.name("status")), ReasonMessage: r.maybe("termination_reason_message"),
		CreatedAt: r.time("created_at"), StartedAt: r.maybeTime("started_at"), FinishedAt: r.maybeTime("finished_at"), LastProcessedAt: r.time("last_processed_at"),
		Price: r.price("price"), TotalBlocks: r.count("total_blocks"), Unreachable: r.flag("unreachable"), Deleted: r.flag("deleted"),
	}
	if r.has("backend") {
		i.Backend = r.name("backend")
	}
	if r.has("region") {
		i.Region = r.text("region")
	}
	if r.has("termination_reason") {
		reason := api.InstanceReason(r.name("termination_reason"))
		i.Reason = &reason
	}
	var data api.JobProvisioningData
	r.json("job_provisioning_data", &data)
	if r.has("job_provisioning_data") && i.Status != api.InstancePending {
		i.Type, i.GPUDriver, i.InternalIP = &data.InstanceType, data.GPUDriver, data.InternalIP
	}
	if data.Hostname != nil {
		i.Hostname = *data.Hostname
	}
	if i.Backend == remote {
		var c connection
		r.json("remote_connection_info", &c)
		i.Access, i.Hostname = c.access(), c.Host
		asConfigured(&i, f)
	}
	settle(&i, now)
	return i
}

// asConfigured fills in what only the fleet's configuration says about a host.
func asConfigured(i *store.Instance, f *store.Fleet) {
	all := f.Spec.Configuration.SSHConfig
	if all == nil {
		return
	}
	i.BlocksWanted = f.Spec.Configuration.Blocks
	if all.Network != nil {
		i.Access.Network = *all.Network
	}
	for n := range all.Hosts {
		h := &all.Hosts[n]
		if h.Hostname != i.Hostname {
			continue
		}
		if h.Blocks != (config.Blocks{}) {
			i.BlocksWanted = h.Blocks
		}
		if h.InternalIP != nil {
			i.Access.Internal = *h.InternalIP
		}
	}
}

// settle gives a host the state from which ours goes on.
func settle(i *store.Instance, now time.Time) {
	switch i.Status {
	case api.InstanceIdle, api.InstanceBusy:
		// Until a shim of ours answers there it takes no job.
		i.Status, i.Unreachable, i.UnreachableSince = api.InstanceIdle, true, &now
	case api.InstancePending, api.InstanceProvisioning:
		// The time that it may take begins anew; hosts stay in their order.
		i.Status, i.StartedAt = api.InstancePending, nil
		i.CreatedAt = now.Add(time.Duration(i.Num) * time.Microsecond)
	case api.InstanceTerminating, api.InstanceTerminated:
		// 0.22.5 leaves its shim on hosts, and ours never was there.
		i.Deleted = i.Deleted || i.Status == api.InstanceTerminating
		if i.Status == api.InstanceTerminating {
			i.FinishedAt = &now
		}
		i.Status, i.Uninstalled = api.InstanceTerminated, true
	}
}

func volume(r *record) store.Volume {
	v := store.Volume{
		ID: r.id("id"), ProjectID: r.id("project_id"), UserID: r.id("user_id"), Name: r.text("name"),
		Status: api.VolumeStatus(r.name("status")), StatusMessage: r.maybe("status_message"),
		CreatedAt: r.time("created_at"), LastProcessedAt: r.time("last_processed_at"), LastUsedAt: r.maybeTime("last_job_processed_at"),
		Deleting: r.flag("to_be_deleted"), Deleted: r.flag("deleted"), DeletedAt: r.maybeTime("deleted_at"),
		// A file system may be on it: better none is made than one is lost.
		Formatted: r.has("last_job_processed_at"),
	}
	r.json("configuration", &v.Configuration)
	r.json("volume_provisioning_data", &v.Provisioning)
	return v
}

// run is a run that has ended.
func run(r *record) store.Run {
	out := store.Run{
		ID: r.id("id"), ProjectID: r.id("project_id"), UserID: r.id("user_id"), FleetID: r.maybeID("fleet_id"), Name: r.text("run_name"),
		SubmittedAt: r.time("submitted_at"), LastProcessedAt: r.time("last_processed_at"), Status: api.RunStatus(r.name("status")),
		Priority: r.number("priority"), DeploymentNum: r.number("deployment_num"), Resubmissions: r.number("resubmission_attempt"), Deleted: r.flag("deleted"),
	}
	if r.has("termination_reason") {
		reason := api.RunReason(r.name("termination_reason"))
		out.Reason = &reason
	}
	r.json("run_spec", &out.Spec)
	r.json("service_spec", &out.Service)
	return out
}

// job is a job that has ended. instances says which instances are taken over.
func job(r *record, instances map[string]bool) store.Job {
	j := store.Job{
		ID: r.id("id"), RunID: r.id("run_id"), ProjectID: r.id("project_id"), RunName: r.text("run_name"),
		ReplicaNum: r.number("replica_num"), JobNum: r.number("job_num"), SubmissionNum: r.number("submission_num"), DeploymentNum: r.number("deployment_num"),
		SubmittedAt: r.time("submitted_at"), LastProcessedAt: r.time("last_processed_at"), Status: api.JobStatus(r.name("status")),
		ReasonMessage: r.maybe("termination_reason_message"), ExitStatus: r.maybeNumber("exit_status"), RunningAt: r.maybeTime("running_at"),
	}
	// 0.22.5 has no other time of the end.
	j.FinishedAt = &j.LastProcessedAt
	if r.has("termination_reason") {
		reason := api.JobReason(r.name("termination_reason"))
		j.Reason = &reason
	}
	if used := r.maybeID("used_instance_id"); used != nil && instances[*used] {
		j.UsedInstanceID = used
	}
	r.json("job_spec_data", &j.Spec)
	j.Spec.SSHKey = nil // 0.22.5 has one for the nodes of a run, and shows it to nobody
	r.json("job_provisioning_data", &j.Provisioning)
	r.json("job_runtime_data", &j.Runtime)
	return j
}

func event(r *record) store.Event {
	return store.Event{ID: r.id("id"), Message: r.text("message"), RecordedAt: r.time("recorded_at"), ActorID: r.maybeID("actor_user_id")}
}

func eventTarget(r *record) store.EventTarget {
	return store.EventTarget{
		Type: strings.ReplaceAll(r.name("entity_type"), "_", "-"), ProjectID: r.maybeID("entity_project_id"), ID: r.id("entity_id"), Name: r.text("entity_name"),
		RunID: r.maybeID("entity_run_id"), FleetID: r.maybeID("entity_fleet_id"), GatewayID: r.maybeID("entity_gateway_id"),
	}
}
