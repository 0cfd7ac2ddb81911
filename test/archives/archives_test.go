//go:build e2e

// Package archives runs real servers that keep what users upload in real
// programs with the protocols of S3, Google Cloud Storage and Azure Blob
// Storage.
package archives

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dstack/client"
	"dstack/controller/objects"
	"dstack/protocol/api"
	"dstack/test/lab"
	"dstack/test/storages"
)

// setting names a bucket for a server.
func setting(st *storages.Storage, scheme, bucket string) string {
	return map[string]string{
		"s3": "DSTACK_SERVER_S3_BUCKET=" + bucket, "gcs": "DSTACK_SERVER_GCS_BUCKET=" + bucket,
		"abs": "DSTACK_SERVER_AZURE_CONTAINER=http://" + st.Proxy.Address + "/devstoreaccount1/" + bucket,
	}[scheme]
}

// start starts a server with a bucket for archives, and ends it after the test.
func start(t *testing.T, dir string, env []string, args ...string) *lab.Server {
	t.Helper()
	s, err := lab.StartServer(t.Context(), dir, env, args...)
	t.Cleanup(func() {
		_ = s.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", dir, s.Log())
		}
	})
	if err != nil {
		t.Fatal(err, s.Log())
	}
	return s
}

func upload(t *testing.T, s *lab.Server, data string) (api.FileArchive, error) {
	t.Helper()
	c, err := client.New(s.URL, lab.Token, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c.UploadArchive(t.Context(), client.Upload{Hash: sum(data), Size: int64(len(data)), Content: strings.NewReader(data)})
}

func sum(data string) string {
	h := sha256.Sum256([]byte(data))
	return hex.EncodeToString(h[:])
}

// onDisk are the archives below the server's folder.
func onDisk(t *testing.T, s *lab.Server) (names []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.Dir, "server", "data", "files"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, d.Name())
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

// TestChain: what the CLI packs goes to the bucket and from there to the job;
// a job that needs it while the network is cut gets it when it is mended.
func TestChain(t *testing.T) {
	st := storages.S3(t)
	st.Make(t, "bucket")
	env := slices.Concat(st.Env, []string{"DSTACK_SHIM_RUNTIME=process", "DSTACK_ENABLE_PROMETHEUS_METRICS=1", setting(st, "s3", "bucket")})
	s := start(t, t.TempDir(), env, "--local")
	t.Cleanup(func() { // the shim would outlive the server
		if result, err := s.CLI(context.Background(), s.Dir, "fleet", "delete", "-y", "local"); err != nil || result.Exit != 0 {
			t.Errorf("%+v, %v", result, err)
		}
	})
	work := t.TempDir()
	apply := func(name, content string) lab.Result {
		t.Helper()
		text := "type: task\nname: " + name + "\nfiles: [data.txt]\ncommands: [cat data.txt]\nresources: {cpu: 1.., memory: 0.1.., disk: 1GB..}\n"
		if err := errors.Join(os.WriteFile(filepath.Join(work, "data.txt"), []byte(content), 0o600), os.WriteFile(filepath.Join(work, ".dstack.yml"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		result, err := s.CLI(t.Context(), work, "apply", "-y", "-d")
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	finish := func(name, content string) {
		t.Helper()
		run, err := s.Finish(t.Context(), name, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if log, err := s.Logs(t.Context(), run); err != nil || run.Status != api.RunDone || !strings.Contains(string(log), content) {
			t.Errorf("%s is %s, %v, log: %s", name, run.Status, err, log)
		}
	}
	if result := apply("first", "from the bucket"); result.Exit != 0 {
		t.Fatalf("%+v", result)
	}
	finish("first", "from the bucket")
	if names := onDisk(t, s); len(names) > 0 {
		t.Errorf("on the server's disk: %v", names)
	}

	st.Proxy.SetCut(true)
	if result := apply("second", "too early"); result.Exit != 1 || !strings.Contains(result.Stderr, "The server can't reach its object storage. Try again in a moment.") {
		t.Errorf("without a network: %+v", result)
	}
	st.Proxy.SetCut(false)
	if result := apply("second", "in time"); result.Exit != 0 {
		t.Fatalf("%+v", result)
	}
	finish("second", "in time")

	// The archive is there; only its way to the host is cut.
	late := tarOf(t, "data.txt", "at last")
	archive, err := upload(t, s, late)
	if err != nil {
		t.Fatal(err)
	}
	st.Proxy.SetCut(true)
	if err := submit(t, s, "third", archive); err != nil {
		t.Fatal(err)
	}
	storages.Await(t, "the server tries in vain", func() bool { return strings.Contains(s.Log(), "get archive from the object storage") })
	st.Proxy.SetCut(false)
	finish("third", "at last")
	metrics(t, s)
}

// metrics has what failed above.
func metrics(t *testing.T, s *lab.Server) {
	t.Helper()
	response, err := http.Get(s.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || !regexp.MustCompile(`(?m)^dstack_server_archive_failures_total [1-9]`).Match(text) {
		t.Errorf("failures are not counted: %v\n%s", err, text)
	}
}

// TestSwitch: each storage serves a server that had none before and loses it
// again; a large or damaged upload leaves nothing.
func TestSwitch(t *testing.T) {
	for scheme, startStorage := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			st := startStorage(t)
			st.Make(t, "bucket")
			dir := t.TempDir()
			s := start(t, dir, nil)
			old, err := upload(t, s, "old")
			if err != nil {
				t.Fatal(err)
			}
			restart := func(env ...string) {
				t.Helper()
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
				s = start(t, dir, env)
			}
			found := func(data, id string) {
				t.Helper()
				c, err := client.New(s.URL, lab.Token, client.Options{})
				if err != nil {
					t.Fatal(err)
				}
				archive, err := c.FindArchive(t.Context(), sum(data))
				if id != archive.ID || (id == "") != client.IsNotExist(err) {
					t.Errorf("archive %q: %+v, %v; want id %q", data, archive, err, id)
				}
			}
			with := slices.Concat(st.Env, []string{setting(st, scheme, "bucket"), "DSTACK_SERVER_CODE_UPLOAD_LIMIT=1000"})
			restart(with...)
			added, err := upload(t, s, "new")
			if err != nil {
				t.Fatal(err)
			}
			found("old", old.ID)
			found("new", added.ID)
			found("none", "")
			if _, err := upload(t, s, strings.Repeat("x", 2000)); err == nil || !strings.Contains(err.Error(), "exceeds the limit of 1000.0B") {
				t.Errorf("too large: %v", err)
			}
			if names := onDisk(t, s); !slices.Equal(names, []string{sum("old")}) {
				t.Errorf("on the server's disk: %v", names)
			}
			if got := keys(t, st); len(got) != 1 || !strings.HasPrefix(got[0], "data/") || !strings.HasSuffix(got[0], "/files/"+sum("new")) {
				t.Errorf("in the bucket: %v", got)
			}
			restart()
			found("old", old.ID)
			found("new", "") // uploaded again when it is needed
			again, err := upload(t, s, "new")
			if err != nil || again != added {
				t.Errorf("%+v, %v; want %+v", again, err, added)
			}
			restart(with...)
			found("old", old.ID)
			found("new", added.ID)
		})
	}
}

// keys are those of the bucket.
func keys(t *testing.T, st *storages.Storage) (all []string) {
	t.Helper()
	target, err := objects.Parse(st.URL("bucket", ""))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, v := range st.Env {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	getenv := func(name string) string { return env[name] }
	var b *objects.Bucket
	if target.Scheme == objects.SchemeS3 { // its SDK asks the environment of this process
		set := objects.S3{KeyID: env["AWS_ACCESS_KEY_ID"], Secret: env["AWS_SECRET_ACCESS_KEY"]}
		set.FillIn(getenv)
		b, err = objects.OpenS3(t.Context(), target, &set)
	} else {
		b, err = objects.Open(t.Context(), target, getenv)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.List(t.Context(), "", func(o objects.Object) { all = append(all, o.Key) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// submit applies a task that prints data.txt of an archive.
func submit(t *testing.T, s *lab.Server, name string, archive api.FileArchive) error {
	t.Helper()
	return s.Call(t.Context(), "project/main/runs/apply", map[string]any{"force": false, "plan": map[string]any{
		"run_spec": map[string]any{
			"run_name": name, "file_archives": []map[string]any{{"id": archive.ID, "path": "data.txt"}},
			"configuration": map[string]any{
				"type": "task", "name": name, "commands": []string{"cat data.txt"},
				"resources": map[string]any{"cpu": "1..", "memory": "0.1..", "disk": "1GB.."},
			},
		},
		"current_resource": nil,
	}}, nil)
}

// TestRefusals: what can't be is one sentence and exit code 1; a storage that
// does not answer is a warning.
func TestRefusals(t *testing.T) {
	s3, gcs, azure := storages.S3(t), storages.GCS(t), storages.Azure(t)
	s3.Make(t, "bucket")
	azure.Make(t, "bucket")
	guarded := storages.S3(t)
	guarded.Make(t, "bucket")
	reader := readOnlyUser(t, guarded)
	with := func(st *storages.Storage, more ...string) []string { return slices.Concat(st.Env, more) }
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"two":                 {with(s3, "DSTACK_SERVER_S3_BUCKET=b1", "DSTACK_SERVER_GCS_BUCKET=b2"), "DSTACK_SERVER_S3_BUCKET and DSTACK_SERVER_GCS_BUCKET are set: archives go to one storage only, unset the others"},
		"s3: no bucket":       {with(s3, "DSTACK_SERVER_S3_BUCKET=nobucket"), "cannot start: archives: s3://nobucket: the bucket does not exist; create it, or correct DSTACK_SERVER_S3_BUCKET"},
		"s3: half a key":      {with(s3, "DSTACK_SERVER_S3_BUCKET=bucket", "AWS_SECRET_ACCESS_KEY="), "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set; set both"},
		"s3: no key":          {with(s3, "DSTACK_SERVER_S3_BUCKET=bucket", "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_EC2_METADATA_DISABLED=true"), "no usable credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"s3: read-only":       {with(guarded, append(reader, "DSTACK_SERVER_S3_BUCKET=bucket")...), "s3://bucket: these credentials may not read, list, write and delete there; give them the rights, or use others: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"s3: another secret":  {with(guarded, reader[0], "DSTACK_SERVER_S3_BUCKET=bucket"), "the storage does not accept the credentials; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"s3: unknown key":     {with(guarded, "DSTACK_SERVER_S3_BUCKET=bucket"), "the storage does not accept the credentials"},
		"gcs: no bucket":      {with(gcs, "DSTACK_SERVER_GCS_BUCKET=nobucket"), "gcs://nobucket: the bucket does not exist; create it, or correct DSTACK_SERVER_GCS_BUCKET"},
		"gcs: no JSON":        {with(gcs, "DSTACK_SERVER_GCS_BUCKET=bucket", "STORAGE_EMULATOR_HOST=", "GOOGLE_APPLICATION_CREDENTIALS_JSON=secret"), "GOOGLE_APPLICATION_CREDENTIALS_JSON is no JSON"},
		"azure: no container": {with(azure, setting(azure, "abs", "nobox")), "abs://devstoreaccount1@nobox: the container does not exist; create it, or correct DSTACK_SERVER_AZURE_CONTAINER"},
		"azure: another key":  {with(azure, setting(azure, "abs", "bucket"), "AZURE_STORAGE_KEY=AAAA"), "give them the rights, or use others: AZURE_STORAGE_KEY"},
		"azure: no URL":       {with(azure, "DSTACK_SERVER_AZURE_CONTAINER=box"), `DSTACK_SERVER_AZURE_CONTAINER="box": not a URL like https://ACCOUNT.blob.core.windows.net/CONTAINER`},
		"azure: read-only":    {with(azure, setting(azure, "abs", "bucket"), "AZURE_STORAGE_SAS_TOKEN="+readOnly(t)), "these credentials may not read, list, write and delete there"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if text := lab.Refused(t, dir, tt.env); !strings.Contains(text, tt.want) || strings.Contains(text, "secret") {
				t.Errorf("%s\nwant %s", text, tt.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "server", "data")); err == nil {
				t.Error("a database was made")
			}
		})
	}
	s3.Proxy.SetCut(true)
	s := start(t, t.TempDir(), with(s3, "DSTACK_SERVER_S3_BUCKET=bucket"))
	if text := s.Log(); !strings.Contains(text, "Archives can't be stored or read now") {
		t.Error(text)
	}
	if _, err := upload(t, s, "x"); err == nil || !strings.Contains(err.Error(), "can't reach its object storage") {
		t.Error(err)
	}
	s3.Proxy.SetCut(false)
	if _, err := upload(t, s, "x"); err != nil {
		t.Error(err)
	}
	lostBucket(t, s3, s)
}

// lostBucket: a bucket that is gone meanwhile is said so, and one that is back
// is used.
func lostBucket(t *testing.T, st *storages.Storage, s *lab.Server) {
	t.Helper()
	storages.Send(t, http.MethodPost, "http://"+st.Proxy.Address+"/moto-api/reset", "")
	if _, err := upload(t, s, "y"); err == nil || !strings.Contains(err.Error(), "The server can't use its object storage: the bucket does not exist.") {
		t.Error(err)
	}
	st.Make(t, "bucket")
	if _, err := upload(t, s, "y"); err != nil {
		t.Error(err)
	}
}
