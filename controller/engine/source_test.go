package engine

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dstack/controller/engine/jobspec"
	"dstack/controller/store"
	"dstack/protocol/api"
	"dstack/protocol/config"
	"dstack/protocol/jobapi"
)

func withSource(j *store.Job) {
	j.Spec.RepoData = &api.RepoData{RepoType: api.RepoRemote, RepoName: "r", RepoBranch: ptr("main"), RepoHash: ptr("abc"), RepoConfigName: ptr("Me")}
	j.Spec.RepoCodeHash = ptr("code-hash")
	j.Spec.SingleBranch = ptr(true)
	j.Spec.RepoExistsAction = ptr(config.RepoExistsError)
	j.Spec.FileArchives = []api.FileArchiveMapping{{ID: "a1", Path: "/x"}, {ID: "a1", Path: "y"}}
}

func fullSource() jobspec.Source {
	return jobspec.Source{
		Creds: &api.RemoteRepoCreds{CloneURL: "https://h/r", OAuthToken: ptr("hush-hush")}, HasCode: true,
		Archives: map[string]string{"a1": "blob-1"},
	}
}

func TestSourceGoesToTheHostAlone(t *testing.T) {
	t.Parallel()
	inst := testInstance(api.InstanceBusy)
	v := jobViewOf(testRun(api.RunProvisioning), testJob(api.JobProvisioning, on(nil), withSource), &inst)
	v.source = fullSource()
	d := decideJob(v)
	expect(t, "starts", doing(d), []string{"start"})
	job := d.effects[0].Spec.Job
	want := &jobapi.Repo{CloneURL: "https://h/r", OAuthToken: "hush-hush", Branch: "main", Hash: "abc", SingleBranch: true, ConfigName: "Me", Code: "code-hash"}
	if diff := cmp.Diff(want, job.Repo); diff != "" {
		t.Errorf("repo (-want +got):\n%s", diff)
	}
	expect(t, "files", job.Files, []jobapi.File{{Blob: "blob-1", Path: "/x"}, {Blob: "blob-1", Path: "y"}})
	expect(t, "blobs", job.Blobs(), []string{"code-hash", "blob-1"})
	stored, err := json.Marshal([]any{v.job, v.run, v.instance, d.jobs, d.runs, d.instances, d.events})
	if err != nil || strings.Contains(string(stored), "hush-hush") {
		t.Errorf("the token would be stored, or %v", err)
	}
}

func TestMissingSource(t *testing.T) {
	t.Parallel()
	for message, lose := range map[string]func(*jobspec.Source){
		"The server does not know how to clone repo r for this user: run dstack init in it, then run it again": func(s *jobspec.Source) { s.Creds = nil },
		"The changes to the repo (code-hash) are not on the server: apply the configuration again":             func(s *jobspec.Source) { s.HasCode = false },
		"The files for /x (archive a1) are not on the server: apply the configuration again":                   func(s *jobspec.Source) { s.Archives = nil },
	} {
		inst := testInstance(api.InstanceBusy)
		for _, c := range []struct {
			job  store.Job
			inst *store.Instance
		}{{testJob(api.JobSubmitted, withSource), nil}, {testJob(api.JobProvisioning, on(nil), withSource), &inst}} {
			v := jobViewOf(testRun(api.RunSubmitted), c.job, c.inst)
			v.source = fullSource()
			lose(&v.source)
			d := decideJob(v)
			expect(t, "status", v.job.Status, api.JobFailed)
			expect(t, "reason", *v.job.Reason, api.ReasonExecutorError)
			expect(t, "message", *v.job.ReasonMessage, message)
			expect(t, "starts nothing", doing(d), nil)
		}
	}
}

// A virtual repo without code is none.
func TestNoSource(t *testing.T) {
	t.Parallel()
	inst := testInstance(api.InstanceBusy)
	v := jobViewOf(testRun(api.RunProvisioning), testJob(api.JobProvisioning, on(nil)), &inst)
	d := decideJob(v)
	expect(t, "starts", doing(d), []string{"start"})
	if job := d.effects[0].Spec.Job; job.Repo != nil || job.Files != nil {
		t.Errorf("repo %v, files %v", job.Repo, job.Files)
	}
}

// The view of a job finds what was uploaded for it.
func TestLoadSource(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), store.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	user := store.User{ID: "u1", Name: "u", GlobalRole: "user", Token: "t", CreatedAt: time.Unix(0, 0)}
	other := store.User{ID: "u2", Name: "o", GlobalRole: "user", Token: "t2", CreatedAt: time.Unix(0, 0)}
	project := store.Project{ID: "p1", Name: "main", OwnerID: "u1", CreatedAt: time.Unix(0, 0)}
	repo := store.Repo{ID: "x", ProjectID: "p1", RepoID: "r-1", Info: []byte(`{"repo_type":"remote","repo_name":"r"}`)}
	steps := func(tx *store.Tx) []error {
		return []error{
			tx.InsertUser(&user), tx.InsertUser(&other), tx.InsertProject(&project), tx.PutRepo(&repo),
			tx.PutRepoCreds(&store.RepoCreds{RepoPK: "x", UserID: "u1", Creds: *fullSource().Creds}),
			tx.PutRepoCode(&store.RepoCode{ID: "c", RepoPK: "x", Hash: "code-hash", CreatedAt: time.Unix(0, 0)}),
			tx.PutFileArchive(&store.FileArchive{ID: "a1", UserID: "u1", Hash: "blob-1", CreatedAt: time.Unix(0, 0)}),
		}
	}
	if err := db.Write(t.Context(), func(tx *store.Tx) error {
		for _, err := range steps(tx) {
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	load := func(userID string) jobspec.Source {
		run := store.Run{ProjectID: "p1", UserID: userID}
		run.Spec.RepoID = ptr("r-1")
		job := store.Job{}
		withSource(&job)
		v := jobView{run: &run, job: &job}
		if err := db.Read(t.Context(), v.loadSource); err != nil {
			t.Fatal(err)
		}
		return v.source
	}
	if diff := cmp.Diff(fullSource(), load("u1")); diff != "" {
		t.Errorf("source (-want +got):\n%s", diff)
	}
	// Nobody gets credentials or files of others.
	if diff := cmp.Diff(jobspec.Source{HasCode: true, Archives: map[string]string{}}, load("u2")); diff != "" {
		t.Errorf("source of another user (-want +got):\n%s", diff)
	}
}
