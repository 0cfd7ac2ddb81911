//go:build e2e

package logship

import (
	"slices"
	"strings"
	"testing"

	"dstack/test/storages"
)

// TestObjects copies logs to each kind of object storage.
func TestObjects(t *testing.T) {
	for scheme, start := range storages.All() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			st := start(t)
			st.Make(t, "bucket")
			exercise(t, &place{
				env:   slices.Concat(st.Env, []string{"DSTACK_SERVER_LOGS_URL=" + st.URL("bucket", "some/path")}),
				proxy: st.Proxy,
			})
		})
	}
}

// TestObjectRefusals: what can't be is one sentence and exit code 1.
func TestObjectRefusals(t *testing.T) {
	st := storages.S3(t)
	st.Make(t, "bucket")
	const variable = "DSTACK_SERVER_LOGS_URL="
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"unknown scheme":  {[]string{variable + "ftp://bucket"}, `DSTACK_SERVER_LOGS_URL: scheme "ftp" is not known`},
		"no bucket there": {[]string{variable + "s3://nobucket/p"}, "cannot start: s3://nobucket/p: the bucket does not exist; create it"},
		"one key":         {[]string{variable + "s3://bucket", "AWS_SECRET_ACCESS_KEY="}, "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"},
		"no credentials":  {[]string{variable + "s3://bucket", "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_EC2_METADATA_DISABLED=true"}, "no usable credentials"},
		"limits":          {[]string{"DSTACK_SERVER_LOGS_MAX_BYTES=2", "DSTACK_SERVER_LOGS_HARD_MAX_BYTES=1"}, "DSTACK_SERVER_LOGS_HARD_MAX_BYTES must not be less than"},
		"no number":       {[]string{"DSTACK_SERVER_LOGS_TTL_SECONDS=1d"}, `DSTACK_SERVER_LOGS_TTL_SECONDS="1d": must be a whole number`},
	} {
		t.Run(name, func(t *testing.T) {
			if text := refused(t, slices.Concat(st.Env, tt.env)...); !strings.Contains(text, tt.want) {
				t.Errorf("%s\nwant %s", text, tt.want)
			}
		})
	}
}
