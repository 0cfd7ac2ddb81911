package config

import (
	"encoding/json"
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
	f.Add([]byte("projects: [{name: main, url: http://x, token: t, default: true}]\nrepos: []\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if profiles, err := DecodeProfiles("p", data); err == nil {
			if _, err := json.Marshal(profiles); err != nil {
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
