package logurl_test

import (
	"testing"

	"dstack/cli/logurl"
)

func rewriter() *logurl.Rewriter {
	return logurl.New(map[int]logurl.Target{
		8000: {Base: "http://127.0.0.1:9000"},
		80:   {Base: "https://run.example.com/prefix"},
		8888: {Base: "http://127.0.0.1:8889", Query: map[string]string{"token": "a b"}},
	}, "10.0.0.7", "")
}

func TestRewrite(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"no URL in here, h":             "no URL in here, h",
		"http://localhost:8000":         "http://127.0.0.1:9000",
		"at http://0.0.0.0:8000/x?a=1.": "at http://127.0.0.1:9000/x?a=1.",
		"http://127.0.0.1:8000/ http://10.0.0.7:8000\n": "http://127.0.0.1:9000/ http://127.0.0.1:9000\n",
		"http://localhost:80000/":                       "http://localhost:80000/",
		"http://localhost:80/docs":                      "https://run.example.com/prefix/docs",
		"http://localhost:8001/":                        "http://localhost:8001/",
		"http://localhost/ http://localhost:":           "http://localhost/ http://localhost:",
		"http://example.com:8000/":                      "http://example.com:8000/",
		"https://localhost:8000/":                       "https://localhost:8000/",
		"http://localhost:8888/lab?x=1 go":              "http://127.0.0.1:8889/lab?token=a+b&x=1 go",
		"http://localhost:8888":                         "http://127.0.0.1:8889?token=a+b",
		"http://http://localhost:8000":                  "http://http://127.0.0.1:9000",
		"http://localhost:\x1b[1;32m8000\x1b[22m/":      "http://127.0.0.1:9000\x1b[1;32m\x1b[22m/",
		"http://localhost:\x1b[2K8000":                  "http://localhost:\x1b[2K8000",
		"http://localhost:99999999999999999999":         "http://localhost:99999999999999999999",
	} {
		r := rewriter()
		if got := string(r.Flush(r.Append(nil, []byte(text)))); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestHeldIsOnlyWhatMayBecomeURL(t *testing.T) {
	r := rewriter()
	if got := string(r.Append(nil, []byte("at http://local"))); got != "at " || !r.Held() {
		t.Errorf("got %q, held %v", got, r.Held())
	}
	if got := string(r.Append(nil, []byte("ly"))); got != "http://locally" || r.Held() {
		t.Errorf("got %q, held %v", got, r.Held())
	}
}

// FuzzRewrite shows that the result does not depend on the cuts, and that
// text without URLs stays.
func FuzzRewrite(f *testing.F) {
	f.Add([]byte("see http://localhost:8000/x and http://10.0.0.7:8888/?q=1\n"), 3)
	f.Add([]byte("http://localhost:\x1b[1m8000\x1b[22m/"), 18)
	f.Fuzz(func(t *testing.T, text []byte, step int) {
		whole := rewriter()
		want := whole.Flush(whole.Append(nil, text))
		step = max(step, 1)
		if len(text) > 1<<10 { // URLs longer than what is held may be cut
			return
		}
		cut := rewriter()
		var got []byte
		for i := 0; i < len(text); i += min(step, len(text)-i) {
			got = cut.Append(got, text[i:min(i+step, len(text))])
		}
		got = cut.Flush(got)
		if string(got) != string(want) {
			t.Errorf("cut every %d bytes: %q, whole: %q", step, got, want)
		}
	})
}
