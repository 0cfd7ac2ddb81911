package objects

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct{ url, want string }{
		{"s3://bucket/path", "s3://bucket/path"},
		{"s3://bucket/a/b/", "s3://bucket/a/b"},
		{"s3://bucket", "s3://bucket"},
		{" s3://bucket/p?endpoint=http://127.0.0.1:9000&region=eu-west-1 ", "s3://bucket/p"},
		{"gcs://bucket/path", "gcs://bucket/path"},
		{"gs://bucket/path", "gcs://bucket/path"},
		{"abs://account@container/path", "abs://account@container/path"},
	} {
		got, err := Parse(tc.url)
		if err != nil || got.String() != tc.want {
			t.Errorf("%s: %v, %v; want %s", tc.url, got, err, tc.want)
		}
	}
	for _, tc := range []struct{ url, want string }{
		{"", "scheme"},
		{"bucket/path", "scheme"},
		{"ftp://bucket/path", `"ftp" is not known`},
		{"file:///var/backup", `"file" is not known`},
		{"s3:bucket", "not a URL"},
		{"s3://", "no name of a bucket"},
		{"s3:///path", "no name of a bucket"},
		{"s3://bu cket/path", "not a URL"},
		{"abs://a%00@container/path", "no name of an account"},
		{"s3://bucket/a%00b", "control characters"},
		{"s3://bucket/a%20", "spaces at its ends"},
		{"s3://-bucket/path", "no name of a bucket"},
		{"s3://id:secret@bucket/path", "must not hold a password"},
		{"s3://id@bucket/path", "abs:// only"},
		{"abs://container/path", "account is missing"},
		{"abs://account:key@container/path", "must not hold a password"},
	} {
		_, err := Parse(tc.url)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.url, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the secret is shown: %v", tc.url, err)
		}
	}
}

// FuzzParse: what is accepted is shown so that it is accepted again as the same.
func FuzzParse(f *testing.F) {
	f.Add("s3://bucket/a/../b")
	f.Add("gs://bucket//x?endpoint=y")
	f.Add("abs://account@container/%2e%2e/path")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Parse(text)
		if err != nil {
			return
		}
		if strings.HasPrefix(got.Path, "/") || strings.HasSuffix(got.Path, "/") || strings.HasPrefix(got.Path, "../") {
			t.Fatalf("%q: path %q", text, got.Path)
		}
		if strings.ContainsAny(got.Path, "?#%") {
			return // String does not escape
		}
		again, err := Parse(got.String())
		if err != nil || again.String() != got.String() {
			t.Fatalf("%q: %q, then %v, %v", text, got, again, err)
		}
	})
}
