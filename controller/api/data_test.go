package api

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"dstack/controller/auth"
	"dstack/controller/logs"
	"dstack/controller/store"
	"dstack/protocol/api"
)

const (
	repos = "/api/project/main/repos/"
	poll  = "/api/project/main/logs/poll"
)

func TestMyUser(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	me := post[api.UserWithCreds](r, "/api/users/get_my_user", nil)
	if me.Username != "admin" || me.Creds.Token != adminToken || *me.SSHPublicKey != "ssh-rsa AAAA admin\n" || *me.SSHPrivateKey != "PRIVATE" || !me.Permissions.CanCreateProjects {
		t.Errorf("%+v", me)
	}
}

func TestProjects(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var other store.Project
	r.write(func(tx *store.Tx) error {
		other = store.Project{ID: uuid.NewString(), Name: "public-one", OwnerID: r.admin.ID, IsPublic: true, CreatedAt: r.now()}
		return auth.AddProject(tx, &other)
	})
	names := func(token, body string) []string {
		var out []api.Project
		a := r.request(http.MethodPost, "/api/projects/list", token, body)
		if err := json.Unmarshal([]byte(a.body), &out); err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
		var got []string
		for _, p := range out {
			if len(p.Members) != 0 && !strings.Contains(body, "username") || len(p.Backends) != 0 {
				t.Errorf("a list shows members or backends: %+v", p)
			}
			got = append(got, p.ProjectName)
		}
		return got
	}
	for name, tt := range map[string]struct {
		token, body string
		want        []string
	}{
		"admin":           {adminToken, ``, []string{"public-one", "main"}},
		"member":          {memberToken, `{}`, []string{"public-one", "main"}},
		"joined":          {memberToken, `{"include_not_joined":false}`, []string{"main"}},
		"outsider":        {outsiderToken, `{}`, []string{"public-one"}},
		"pattern":         {adminToken, `{"name_pattern":"MAI"}`, []string{"main"}},
		"of a user":       {adminToken, `{"username":"member"}`, []string{"main"}},
		"of another user": {outsiderToken, `{"username":"member"}`, nil},
		"of nobody":       {adminToken, `{"username":"nobody"}`, nil},
		"one":             {adminToken, `{"limit":1}`, []string{"public-one"}},
		"none":            {adminToken, `{"limit":0}`, nil},
	} {
		if diff := cmp.Diff(tt.want, names(tt.token, tt.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	counted := post[api.ProjectsInfoList](r, "/api/projects/list", `{"return_total_count":true,"limit":1}`)
	if counted.TotalCount != 2 || len(counted.Projects) != 1 {
		t.Errorf("%d of %d", len(counted.Projects), counted.TotalCount)
	}
	got := post[api.Project](r, "/api/projects/Main/get", nil)
	if len(got.Members) != 2 || got.Members[0].User.Username != "admin" || got.Members[1].ProjectRole != "user" || !got.Members[1].Permissions.CanManageSSHFleets || got.Members[1].Permissions.CanManageSecrets {
		t.Errorf("members %+v", got.Members)
	}
	if a := r.request(http.MethodPost, "/api/projects/public-one/get", outsiderToken, ""); a.status != http.StatusOK {
		t.Errorf("a public project is closed: %d", a.status)
	}
	if a := r.request(http.MethodPost, "/api/projects/main/get", outsiderToken, ""); a.status != http.StatusForbidden {
		t.Errorf("a private project is open: %d", a.status)
	}
}

func TestRepos(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const creds = `"repo_creds":{"clone_url":"https://example.com/r.git","private_key":null,"oauth_token":"secret"}`
	post[any](r, repos+"init", `{"repo_id":"r1","repo_info":{"repo_type":"remote","repo_name":"r"},`+creds+`}`)
	got := post[api.RepoHeadWithCreds](r, repos+"get", `{"repo_id":"r1","include_creds":true}`)
	if got.RepoCreds == nil || *got.RepoCreds.OAuthToken != "secret" {
		t.Errorf("own credentials: %+v", got.RepoCreds)
	}
	if bare := post[api.RepoHeadWithCreds](r, repos+"get", `{"repo_id":"r1","include_creds":false}`); bare.RepoCreds != nil {
		t.Error("credentials that were not asked for")
	}
	if a := r.request(http.MethodPost, repos+"get", memberToken, `{"repo_id":"r1","include_creds":true}`); strings.Contains(a.body, "secret") {
		t.Error("somebody else's credentials")
	}
	// Only a remote repo has credentials: another type drops them.
	post[any](r, repos+"init", `{"repo_id":"r1","repo_info":{"repo_type":"virtual"},`+creds+`}`)
	if other := post[api.RepoHeadWithCreds](r, repos+"get", `{"repo_id":"r1","include_creds":true}`); other.RepoCreds != nil || string(other.RepoInfo) != `{"repo_type":"virtual"}` {
		t.Errorf("repo after its type changed: %s, credentials %v", other.RepoInfo, other.RepoCreds)
	}
	post[any](r, repos+"init", `{"repo_id":"r1","repo_info":{"repo_type":"remote","repo_name":"r"}}`)
	if again := post[api.RepoHeadWithCreds](r, repos+"get", `{"repo_id":"r1","include_creds":true}`); again.RepoCreds != nil {
		t.Error("init without credentials keeps the old ones")
	}
	if list := post[[]map[string]any](r, repos+"list", nil); len(list) != 1 || list[0]["repo_id"] != "r1" {
		t.Errorf("list %v", list)
	}
	post[any](r, repos+"delete", `{"repos_ids":["r1","none"]}`)
	if _, code := refused(r, repos+"get", `{"repo_id":"r1","include_creds":true}`); code != "resource_not_exists" {
		t.Errorf("deleted repo: code %s", code)
	}
}

// logged submits a run and writes to its log.
func (r *rig) logged(name, text string) (run api.Run, key logs.Key) {
	r.t.Helper()
	run = applyRun(r.t, r, runSpec(name, ""), nil)
	key = logs.Key{Project: "main", Run: name, JobID: run.LatestJobSubmission.ID}
	r.log(key, 0, text)
	return run, key
}

func (r *rig) log(key logs.Key, offset int64, text string) {
	r.t.Helper()
	if _, err := r.logs.Append(r.t.Context(), key, offset, r.now(), []byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

func TestLogsPoll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, key := r.logged("train", "one\n")
	r.log(key, 4, "two \xff\n")
	body := func(run, id, more string) string {
		return fmt.Sprintf(`{"run_name":%q,"job_submission_id":%q%s}`, run, id, more)
	}
	texts := func(p api.JobSubmissionLogs) string {
		var b strings.Builder
		for _, e := range p.Logs {
			text, err := base64.StdEncoding.DecodeString(e.Message)
			if err != nil || e.LogSource != "stdout" {
				t.Fatalf("%v in %+v", err, e)
			}
			b.Write(text)
		}
		return b.String()
	}
	page := post[api.JobSubmissionLogs](r, poll, body("train", key.JobID, `,"limit":1`))
	if texts(page) != "one\n" || page.NextToken == nil {
		t.Errorf("first page %q, token %v", texts(page), page.NextToken)
	}
	next := post[api.JobSubmissionLogs](r, poll, body("train", key.JobID, `,"next_token":"`+*page.NextToken+`"`))
	if texts(next) != "two \uFFFD\n" || next.NextToken != nil {
		t.Errorf("second page %q, token %v", texts(next), next.NextToken)
	}
	at, err := json.Marshal(page.Logs[0].Timestamp)
	if err != nil {
		t.Fatal(err)
	}
	after := post[api.JobSubmissionLogs](r, poll, body("train", key.JobID, `,"start_time":`+string(at)))
	if texts(after) != "two \uFFFD\n" {
		t.Errorf("after a time: %q", texts(after))
	}
	for name, b := range map[string]string{
		"limit 0":            body("train", key.JobID, `,"limit":0`),
		"unknown submission": body("train", uuid.NewString(), ""),
		"agent's log":        body("train", key.JobID, `,"diagnose":true`),
		"beyond the end":     body("train", key.JobID, `,"next_token":"99999999999999999999"`),
		"empty time":         body("train", key.JobID, `,"start_time":"2030-01-01T00:00:00Z","end_time":"2029-01-01T00:00:00Z"`),
	} {
		if p := post[api.JobSubmissionLogs](r, poll, b); p.Logs == nil || len(p.Logs) != 0 {
			t.Errorf("%s: %v", name, p.Logs)
		}
	}
	// The run's name is no path: the submission alone says which log it is.
	if p := post[api.JobSubmissionLogs](r, poll, body("../../other/logs/x", key.JobID, "")); texts(p) != "one\ntwo \uFFFD\n" {
		t.Errorf("with an odd run name: %q", texts(p))
	}
	if msg, _ := refused(r, poll, body("train", key.JobID, `,"next_token":"x"`)); msg != "Invalid next_token: x. Must be a non-negative integer." {
		t.Errorf("bad token: %s", msg)
	}
	for name, b := range map[string]string{
		"unknown submission": body("train", uuid.NewString(), `,"next_token":"x"`), "limit 0": body("train", key.JobID, `,"limit":0,"next_token":"x"`),
	} {
		if msg, _ := refused(r, poll, b); msg != "Invalid next_token: x. Must be a non-negative integer." {
			t.Errorf("bad token, %s: %s", name, msg)
		}
	}
	if a := r.request(http.MethodPost, poll, adminToken, body("train", "00000000-0000-1000-8000-000000000000", "")); a.status != http.StatusUnprocessableEntity ||
		!strings.Contains(a.body, `"type":"uuid_version","loc":["body","job_submission_id"],"msg":"UUID version 4 expected"`) {
		t.Errorf("other version of UUID: %d %s", a.status, a.body)
	}
	r.log(key.Diagnostics(), 0, "agent: one\n")
	if p := post[api.JobSubmissionLogs](r, poll, body("train", key.JobID, `,"diagnose":true`)); texts(p) != "agent: one\n" {
		t.Errorf("agent's log: %q", texts(p))
	}
	if p := post[api.JobSubmissionLogs](r, poll, body("train", key.JobID, `,"descending":true`)); texts(p) != "two \uFFFD\none\n" || p.NextToken != nil || p.ExternalURL != nil {
		t.Errorf("descending: %q", texts(p))
	}
	if a := r.request(http.MethodPost, poll, adminToken, body("train", "x", "")); a.status != http.StatusUnprocessableEntity {
		t.Errorf("bad id: %d", a.status)
	}
}

// open starts a stream and returns what reads its next line that is not empty;
// at the end it returns nil.
func (r *rig) open(path, body string) (next func() []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.server.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: status %d", path, resp.StatusCode)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return func() []byte {
		for lines.Scan() {
			if len(lines.Bytes()) > 0 {
				return lines.Bytes()
			}
		}
		return nil
	}
}

func TestFollowLogs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run, key := r.logged("train", "one\n")
	next := r.open("/api/project/main/logs/follow", `{"job_submission_id":"`+key.JobID+`"}`)
	chunk := func() api.LogChunk {
		var c api.LogChunk
		if err := json.Unmarshal(next(), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := chunk(); string(c.Message) != "one\n" || c.Offset != 0 || c.End {
		t.Errorf("first chunk %+v", c)
	}
	r.log(key, 4, "two\n")
	if c := chunk(); string(c.Message) != "two\n" || c.Offset != 4 {
		t.Errorf("second chunk %+v", c)
	}
	r.finish(run.ID, api.RunDone)
	if c := chunk(); !c.End || c.Offset != 8 {
		t.Errorf("last chunk %+v", c)
	}
	if line := next(); line != nil {
		t.Errorf("after the end: %s", line)
	}
	since := post[api.JobSubmissionLogs](r, poll, fmt.Sprintf(`{"run_name":"x","job_submission_id":%q,"limit":1}`, key.JobID)).Logs[0].Timestamp
	at, err := json.Marshal(since)
	if err != nil {
		t.Fatal(err)
	}
	next = r.open("/api/project/main/logs/follow", fmt.Sprintf(`{"job_submission_id":%q,"since":%s}`, key.JobID, at))
	if c := chunk(); string(c.Message) != "two\n" || c.Offset != 4 {
		t.Errorf("since the first event: %+v", c)
	}
	if _, code := refused(r, "/api/project/main/logs/follow", `{"job_submission_id":"`+uuid.NewString()+`"}`); code != "resource_not_exists" {
		t.Errorf("unknown submission: code %s", code)
	}
}

// TestStreamsEndWithTheToken: who may not ask any more hears nothing more.
func TestStreamsEndWithTheToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, key := r.logged("train", "one\n")
	watch := r.open(runs+"watch", `{"run_name":"train"}`)
	follow := r.open("/api/project/main/logs/follow", `{"job_submission_id":"`+key.JobID+`"}`)
	if len(watch()) == 0 || len(follow()) == 0 {
		t.Fatal("no line")
	}
	post[api.UserWithCreds](r, "/api/users/refresh_token", `{"username":"admin"}`)
	r.log(key, 4, "two\n")
	if line := follow(); line != nil {
		t.Errorf("log: %s", line)
	}
	if line := watch(); line != nil {
		t.Errorf("run: %s", line)
	}
}

func TestWatchRun(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	run := applyRun(t, r, runSpec("train", ""), nil)
	next := r.open(runs+"watch", `{"run_name":"train"}`)
	read := func() api.Run {
		var v api.Run
		if err := json.Unmarshal(next(), &v); err != nil { //nolint:musttag // its parts read themselves
			t.Fatal(err)
		}
		return v
	}
	if v := read(); v.ID != run.ID || v.Status != api.RunSubmitted {
		t.Errorf("first line %s", v.Status)
	}
	post[any](r, runs+"stop", `{"runs_names":["train"],"abort":false}`)
	if v := read(); v.Status != api.RunTerminating {
		t.Errorf("second line %s", v.Status)
	}
	r.finish(run.ID, api.RunTerminated)
	if v := read(); v.Status != api.RunTerminated {
		t.Errorf("last line %s", v.Status)
	}
	if line := next(); line != nil {
		t.Errorf("after the end: %s", line)
	}
	if _, code := refused(r, runs+"watch", `{"run_name":"none"}`); code != "resource_not_exists" {
		t.Errorf("unknown run: code %s", code)
	}
}

// TestStreamsEndWithTheServer stops the server under a stream.
func TestStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	applyRun(t, r, runSpec("train", ""), nil)
	next := r.open(runs+"watch", `{"run_name":"train"}`)
	next()
	close(r.stopping)
	if line := next(); line != nil {
		t.Errorf("after the stop: %s", line)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	fleet := applyFleet(t, r, fleetSpec(t, "lab", "", "10.0.0.1"), nil)
	run := applyRun(t, r, runSpec("train", ""), nil)
	list := func(token, body string) []api.Event {
		var out []api.Event
		a := r.request(http.MethodPost, "/api/events/list", token, body)
		if err := json.Unmarshal([]byte(a.body), &out); err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
		return out
	}
	all := list(adminToken, `{}`)
	for name, tt := range map[string]struct {
		token, body string
		want        int
	}{
		"member":           {memberToken, `{}`, len(all)},
		"outsider":         {outsiderToken, `{}`, 0},
		"outsider, within": {outsiderToken, `{"within_runs":["` + run.ID + `"]}`, 0},
		"one run":          {adminToken, `{"target_runs":["` + run.ID + `"]}`, 1},
		"run and its jobs": {adminToken, `{"within_runs":["` + run.ID + `"]}`, 2},
		"the jobs":         {adminToken, `{"within_runs":["` + run.ID + `"],"include_target_types":["job"]}`, 1},
		"fleet and hosts":  {adminToken, `{"within_fleets":["` + fleet.ID + `"]}`, 2},
		"project":          {adminToken, `{"within_projects":["` + r.main.ID + `"]}`, len(all)},
		"gateways":         {adminToken, `{"within_gateways":["` + r.main.ID + `"]}`, 0},
		"by the system":    {adminToken, `{"actors":[null],"within_runs":["` + run.ID + `"]}`, 1},
		"by the admin":     {adminToken, `{"actors":["` + r.admin.ID + `"],"within_runs":["` + run.ID + `"]}`, 1},
		"one":              {adminToken, `{"limit":1}`, 1},
		"from long ago":    {adminToken, `{"prev_recorded_at":"2020-01-01T00:00:00Z"}`, 0},
	} {
		if got := list(tt.token, tt.body); len(got) != tt.want {
			t.Errorf("%s: %d events, want %d", name, len(got), tt.want)
		}
	}
	submitted := list(adminToken, `{"target_runs":["`+run.ID+`"]}`)[0]
	want := api.EventTarget{Type: "run", ProjectID: &r.main.ID, ProjectName: new("main"), IsProjectDeleted: new(false), ID: run.ID, Name: "train"}
	if diff := cmp.Diff(want, submitted.Targets[0]); diff != "" || *submitted.ActorUser != "admin" || *submitted.IsActorUserDeleted {
		t.Errorf("event %+v (-want +got):\n%s", submitted, diff)
	}
	for name, body := range map[string]string{
		"two targets": `{"target_runs":["` + run.ID + `"],"target_fleets":["` + run.ID + `"]}`,
		"no ids":      `{"target_runs":[]}`,
		"no UUID":     `{"target_runs":["x"]}`,
		"limit 0":     `{"limit":0}`,
		"limit 101":   `{"limit":101}`,
	} {
		if a := r.request(http.MethodPost, "/api/events/list", adminToken, body); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s, want 422", name, a.status, a.body)
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	c := NewChanges()
	before := c.wait()
	c.Notify()
	select {
	case <-before:
	case <-time.After(time.Minute):
		t.Fatal("nobody was told")
	}
	select {
	case <-c.wait():
		t.Error("told without a change")
	default:
	}
}
