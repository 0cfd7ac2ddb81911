package config

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dstack/protocol/internal/decode"
)

// normalise writes a configuration and reads it again: that must be accepted
// and change nothing.
func normalise(t *testing.T, a Apply) {
	t.Helper()
	first, err := json.Marshal(a.value())
	if err != nil {
		t.Fatal(err)
	}
	root, err := decode.JSON(first)
	if err != nil {
		t.Fatal(err)
	}
	again, err := decode.Read("", root, readApply)
	if err != nil {
		t.Fatalf("normalised document is rejected: %v\n%s", err, first)
	}
	second, err := json.Marshal(again.value())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(first), string(second)); diff != "" {
		t.Fatalf("normalising twice (-first +second):\n%s", diff)
	}
}

// FuzzApply feeds whole YAML files.
func FuzzApply(f *testing.F) {
	for _, c := range corpus(f, "apply") {
		f.Add([]byte(c.YAML))
	}
	f.Add([]byte("type: task\na: &a [*a, *a]\n"))
	f.Add([]byte("? {a: b}\n: !!binary x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := DecodeApply("f.yml", data)
		if err == nil {
			normalise(t, a)
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if strings.HasPrefix(line, "f.yml:0") {
				t.Fatalf("error without a line: %s", line)
			}
		}
	})
}

// fuzzField feeds texts to one field. document is JSON with VALUE in the
// place of the text.
func fuzzField(f *testing.F, document string, seeds ...string) {
	f.Helper()
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		value, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		root, err := decode.JSON([]byte(strings.Replace(document, "VALUE", string(value), 1)))
		if err != nil {
			t.Fatal(err)
		}
		if a, err := decode.Read("", root, readApply); err == nil {
			normalise(t, a)
		}
	})
}

func task(field string) string { return `{"type":"task","commands":["a"],` + field + `}` }

func FuzzMemory(f *testing.F) {
	fuzzField(f, task(`"resources":{"memory":VALUE}`), "8GB..1TB", "512 MB", "..1e3", "nan", "-1_0.5mb", "-0", "-4e-324mb", "1e308tb")
}

func FuzzShmSize(f *testing.F) { fuzzField(f, task(`"resources":{"shm_size":VALUE}`), "8GB", "1.5tb") }

func FuzzDisk(f *testing.F) {
	fuzzField(f, task(`"resources":{"disk":VALUE}`), "100GB..", "1TB", "-0..-0")
}

func FuzzCPU(f *testing.F) {
	fuzzField(f, task(`"resources":{"cpu":VALUE}`), "arm:4..8", "16 : X86", "2..", "4:8", "arm:")
}

func FuzzGPU(f *testing.F) {
	fuzzField(f, task(`"resources":{"gpu":VALUE}`), "A100,H100:80GB..:2..4", "tpu:v5p-8", "tpu-v2-8", "4090", "nvidia:amd", "é")
}

func FuzzComputeCapability(f *testing.F) {
	fuzzField(f, task(`"resources":{"gpu":{"compute_capability":VALUE}}`), "8.0", "12", "8.6.1")
}

func FuzzDuration(f *testing.F) {
	fuzzField(f, task(`"max_duration":VALUE`), "2h", "off", "10 m", "1_000", " 60 ", "-1", "99999999999999999999w")
}

func FuzzIdleDuration(f *testing.F) { fuzzField(f, task(`"idle_duration":VALUE`), "2h", "off", "-5") }

func FuzzPort(f *testing.F) {
	fuzzField(f, task(`"ports":[VALUE]`), "8080", "8000:80", "*:80", "", ":80", "80:", "99999")
}

func FuzzEnv(f *testing.F) {
	fuzzField(f, task(`"env":[VALUE]`), "A=1", "A", "A=", "a=b=c", "A\n", "é=1")
}

func FuzzMount(f *testing.F) {
	fuzzField(f, task(`"volumes":[VALUE]`), "data:/data", "/a//b:/c/./d/", "//a:/x", ":/d", "a:/../b", "///:/")
}

func FuzzFile(f *testing.F) {
	fuzzField(f, task(`"files":[VALUE]`), "a", "a:b", `C:\a:/b`, `a:C:\b`, "a:b:c", ":")
}

func FuzzRepo(f *testing.F) {
	fuzzField(f, task(`"repos":[VALUE]`), ".", "git@host:a/b.git:~/x", "https://h/a:b", "https://h:8443/a", `C:\a:b`, ":~bob")
}

func FuzzReference(f *testing.F) { fuzzField(f, task(`"fleets":[VALUE]`), "a", "a/b", "a/b/c", "/") }

func FuzzSelector(f *testing.F) { fuzzField(f, task(`"instances":[VALUE]`), "gpu-0", "") }

func FuzzTag(f *testing.F) { fuzzField(f, task(`"tags":{"k":VALUE}`), "a/b:c=d@e.f+g_h-i j", "a;b") }

func service(field string) string {
	return `{"type":"service","image":"a","port":80,` + field + `}`
}

func FuzzServicePort(f *testing.F) {
	fuzzField(f, `{"type":"service","image":"a","port":VALUE}`, "8080", "80:8080", "*:80", " 60 ", "0", "1:")
}

func FuzzServiceGateway(f *testing.F) {
	fuzzField(f, service(`"gateway":VALUE`), "prod", "a/b", "yes", "t", "a/b/c")
}

func FuzzReplicas(f *testing.F) {
	fuzzField(f, service(`"replicas":VALUE`), "1", "2..2", "..0", "1..", "4..2", "-1")
}

func FuzzScaling(f *testing.F) {
	fuzzField(f, service(`"replicas":"0..2","scaling":{"metric":"rps","target":1,"window":VALUE}`), "30s", "300", "5m")
}

func FuzzRateLimit(f *testing.F) {
	fuzzField(f, service(`"rate_limits":[{"rps":1,"prefix":VALUE}]`), "/api/", "/a{b", "api")
}

func FuzzProbe(f *testing.F) {
	fuzzField(f, service(`"probes":[{"type":"http","url":VALUE}]`), "/health", "health", "/\u0001", "/é")
}

func FuzzModel(f *testing.F) { fuzzField(f, service(`"model":VALUE`), "org/m", "") }

func FuzzIDEVersion(f *testing.F) {
	fuzzField(f, `{"type":"dev-environment","ide":"windsurf","version":VALUE}`, "1.106.0@8951cd3a", "1")
}

func FuzzInactivity(f *testing.F) {
	fuzzField(f, `{"type":"dev-environment","inactivity_duration":VALUE}`, "2h", "off", "-1")
}

func FuzzVolumeSize(f *testing.F) {
	fuzzField(f, `{"type":"volume","backend":"aws","region":"r","size":VALUE}`, "100GB", "1tb", "10GB..")
}

func FuzzPresetModel(f *testing.F) {
	fuzzField(f, `{"type":"preset","model":VALUE}`, "org/m", " ")
}

func FuzzPresetDataset(f *testing.F) {
	fuzzField(f, `{"type":"preset","base":"b","dataset":VALUE}`, "sharegpt", " random ", "")
}

// FuzzRun feeds bodies of REST calls.
func FuzzRun(f *testing.F) {
	for _, c := range corpus(f, "apply") {
		if c.Valid {
			f.Add([]byte(c.Normalized))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		root, err := decode.JSON(data)
		if err != nil {
			return
		}
		a, err := decode.Read("", root, readApply)
		if errs, ok := errors.AsType[Errors](err); ok {
			if _, err := json.Marshal(errs.Details()); err != nil {
				t.Fatal(err)
			}
		}
		if err == nil {
			normalise(t, a)
		}
	})
}

// FuzzBackend feeds backends in the REST form.
func FuzzBackend(f *testing.F) {
	for _, c := range corpus(f, "server-config") {
		server, err := DecodeServer("", []byte(c.YAML), noFile)
		if err != nil {
			continue
		}
		for _, p := range server.Projects {
			for _, b := range p.Backends {
				text, err := json.Marshal(b)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := DecodeBackend(data)
		if err != nil {
			return
		}
		if _, err := b.Public(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeBackend(text)
		if err != nil {
			t.Fatalf("own form is rejected: %v\n%s", err, text)
		}
		if diff := cmp.Diff(b, again); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	})
}

func FuzzUser(f *testing.F) {
	fuzzField(f, task(`"user":VALUE`), "ubuntu", "1000:1000", "a:b:c", "-5", ":")
}

func FuzzPython(f *testing.F) { fuzzField(f, task(`"python":VALUE`), "3.12", "3.1", "3") }

func FuzzShell(f *testing.F) { fuzzField(f, task(`"shell":VALUE`), "sh", "/bin/zsh", "zsh") }

func FuzzSchedule(f *testing.F) {
	fuzzField(f, task(`"schedule":{"cron":VALUE}`), "0 8 * * mon-fri", "0 0 last * *")
}

func FuzzNodes(f *testing.F) {
	fuzzField(f, `{"type":"fleet","nodes":VALUE}`, "2", "0..4", "..", "1..", "..3", "4..2", "1..2..3")
}

func FuzzNetwork(f *testing.F) {
	fuzzField(f, `{"type":"fleet","ssh_config":{"hosts":["h"],"network":VALUE}}`, "10.1.2.3/8", "8.8.8.0/24", "fd00::/8", "::ffff:10.0.0.1/128")
}

func FuzzInternalIP(f *testing.F) {
	fuzzField(f, `{"type":"fleet","ssh_config":{"hosts":[{"hostname":"h","internal_ip":VALUE}]}}`, "10.0.0.1", "fe80::1%eth0", "8.8.8.8")
}

func FuzzInterpolate(f *testing.F) {
	for _, seed := range []string{"echo $$", "$${{ x }}", "${{ run.args }}", "${{", "a $$ ${{ secrets.b }} $"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lookup := func(name string) (string, bool) { return "V", name == "run.args" }
		out, err := Interpolate(s, lookup, secretName.MatchString)
		if err == nil && !strings.Contains(s, "$") && out != s {
			t.Fatalf("%q became %q", s, out)
		}
	})
}

// noFile is a FileReader without files.
func noFile(string) ([]byte, error) { return nil, fs.ErrNotExist }

// FuzzFiles feeds the other YAML files.
func FuzzFiles(f *testing.F) {
	for _, kind := range []string{"profile", "server-config"} {
		for _, c := range corpus(f, kind) {
			f.Add([]byte(c.YAML))
		}
	}
	f.Add([]byte("type: template\nname: a\ntitle: b\nparameters: [{type: env, name: A}]\nconfiguration: {type: task, x: .inf}\n"))
	f.Add([]byte("projects: [{name: main, url: http://x, token: t, default: true}]\nrepos: []\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if profiles, err := DecodeProfiles("p", data); err == nil {
			if _, err := json.Marshal(profiles); err != nil {
				t.Fatal(err)
			}
		}
		if template, err := DecodeTemplate("t", data); err == nil {
			if _, err := json.Marshal(template); err != nil {
				t.Fatal(err)
			}
		}
		if server, err := DecodeServer("s", data, noFile); err == nil {
			if _, err := json.Marshal(server); err != nil {
				t.Fatal(err)
			}
		}
		projects, err := DecodeClient("c", data)
		if err != nil {
			return
		}
		text, err := EncodeClient(projects)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeClient("c", text)
		if err != nil {
			t.Fatalf("written file is rejected: %v\n%s", err, text)
		}
		if len(projects) > 0 {
			if diff := cmp.Diff(projects, again); diff != "" {
				t.Fatalf("(-written +read):\n%s", diff)
			}
		}
	})
}
