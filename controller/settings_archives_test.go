package controller

import (
	"strings"
	"testing"
)

func TestArchiveSettings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		env          []string
		want, region string
	}{
		{nil, "", ""},
		{[]string{"DSTACK_SERVER_S3_BUCKET", "b-1", "DSTACK_SERVER_S3_BUCKET_REGION", "eu-west-1"}, "s3://b-1", "eu-west-1"},
		{[]string{"DSTACK_SERVER_S3_BUCKET", " b1 "}, "s3://b1", ""},
		{[]string{"DSTACK_SERVER_BUCKET", "old", "DSTACK_SERVER_BUCKET_REGION", "us-east-2"}, "s3://old", "us-east-2"},
		{[]string{"DSTACK_SERVER_BUCKET", "same", "DSTACK_SERVER_S3_BUCKET", "same"}, "s3://same", ""},
		{[]string{"DSTACK_SERVER_GCS_BUCKET", "b.example"}, "gcs://b.example", ""},
		{[]string{"DSTACK_SERVER_AZURE_CONTAINER", "https://account.blob.core.windows.net/box/"}, "abs://account@box", ""},
		{[]string{"DSTACK_SERVER_AZURE_CONTAINER", "http://127.0.0.1:1/account/box"}, "abs://account@box", ""},
	} {
		s, err := SettingsFrom(env(tc.env...), "/")
		got, region := "", ""
		if b := s.Archives.Bucket; b != nil {
			got, region = b.String(), b.Query.Get("region")
		}
		if err != nil || got != tc.want || region != tc.region {
			t.Errorf("%v: %q in %q, %v; want %q in %q", tc.env, got, region, err, tc.want, tc.region)
		}
	}
	for _, tc := range []struct {
		env  []string
		want string
	}{
		{[]string{"DSTACK_SERVER_S3_BUCKET", "b1", "DSTACK_SERVER_GCS_BUCKET", "b2"}, "DSTACK_SERVER_S3_BUCKET and DSTACK_SERVER_GCS_BUCKET are set: archives go to one storage only, unset the others"},
		{[]string{"DSTACK_SERVER_BUCKET", "b1", "DSTACK_SERVER_AZURE_CONTAINER", "https://a1.x/b2"}, "DSTACK_SERVER_S3_BUCKET and DSTACK_SERVER_AZURE_CONTAINER are set"},
		{[]string{"DSTACK_SERVER_BUCKET", "b1", "DSTACK_SERVER_S3_BUCKET", "b2"}, `differ: unset DSTACK_SERVER_BUCKET, which is the old name`},
		{[]string{"DSTACK_SERVER_S3_BUCKET", "s3://bucket"}, `DSTACK_SERVER_S3_BUCKET="s3://bucket": `},
		{[]string{"DSTACK_SERVER_GCS_BUCKET", "bucket/path"}, "must be a name without a path"},
		{[]string{"DSTACK_SERVER_AZURE_CONTAINER", "account/box"}, "not a URL like https://ACCOUNT.blob"},
		{[]string{"DSTACK_SERVER_AZURE_CONTAINER", "https://account.blob.core.windows.net/"}, "not a URL like https://ACCOUNT.blob"},
		{[]string{"DSTACK_SERVER_AZURE_CONTAINER", "https://account.blob.core.windows.net/a/b/c"}, "not a URL like https://ACCOUNT.blob"},
		{[]string{"DSTACK_SERVER_AZURE_CONTAINER", "https://account.blob.core.windows.net/box?sig=x"}, "must not hold a token"},
	} {
		if _, err := SettingsFrom(env(tc.env...), "/"); err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want %q", tc.env, err, tc.want)
		}
	}
}
