package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// s3Answer is an error of S3 with its status, as the SDK reports it.
func s3Answer(status int, code string) error {
	return &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code, Message: "what S3 says"},
	}}
}

// TestExplain: each error of a storage has its kind, and says what to do.
func TestExplain(t *testing.T) {
	t.Parallel()
	s3, gcs := Target{Scheme: SchemeS3, Bucket: "b", Setting: "THE_BUCKET"}, Target{Scheme: SchemeGCS, Bucket: "b"}
	azure := Target{Scheme: SchemeAzure, Account: "a", Bucket: "b", Setting: "THE_BOX"}
	for _, tc := range []struct {
		target Target
		err    error
		kind   Kind
		want   string
	}{
		{s3, s3Answer(404, "NoSuchBucket"), KindNoBucket, "s3://b: the bucket does not exist; create it, or correct THE_BUCKET"},
		{gcs, &gcsError{404, "bucket does not exist"}, KindNoBucket, "gcs://b: the bucket does not exist; create it, or correct the URL"},
		{azure, &azcore.ResponseError{StatusCode: 404, ErrorCode: "ContainerNotFound"}, KindNoBucket, "abs://a@b: the container does not exist; create it, or correct THE_BOX"},
		{s3, s3Answer(403, "InvalidAccessKeyId"), KindCredentials, "does not accept the credentials; correct AWS_ACCESS_KEY_ID"},
		{s3, s3Answer(403, "SignatureDoesNotMatch"), KindCredentials, "does not accept the credentials"},
		{gcs, &gcsError{401, "Invalid Credentials"}, KindCredentials, "correct GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_APPLICATION_CREDENTIALS_JSON"},
		{s3, s3Answer(403, "AccessDenied"), KindForbidden, "may not read, list, write and delete there; give them the rights"},
		{azure, &azcore.ResponseError{StatusCode: 403, ErrorCode: "AuthorizationPermissionMismatch"}, KindForbidden, "or use others: AZURE_STORAGE_KEY"},
		{s3, s3Answer(301, "PermanentRedirect"), KindOther, "the bucket is in another region; correct the region, or leave it out"},
		{s3, s3Answer(400, "AuthorizationHeaderMalformed"), KindOther, "the bucket is in another region"},
		{s3, s3Answer(503, "SlowDown"), KindUnreachable, "the storage does not work now ("},
		{gcs, &gcsError{429, "too many"}, KindUnreachable, "the storage does not work now (Google Cloud Storage answered 429: too many); try again later"},
		{s3, fmt.Errorf("dial: %w", syscall.ECONNREFUSED), KindUnreachable, "can't be reached (dial: connection refused); check the network and THE_BUCKET"},
		{s3, fmt.Errorf("get: %w", context.DeadlineExceeded), KindUnreachable, "can't be reached"},
		{s3, fmt.Errorf("get: %w", io.ErrUnexpectedEOF), KindUnreachable, "can't be reached"},
		{s3, errors.New("get credentials: no EC2 IMDS role found"), KindCredentials, "no usable credentials; set AWS_ACCESS_KEY_ID"},
		{s3, errors.New("something else"), KindOther, "the storage failed (something else); see the cause"},
	} {
		err := tc.target.Explain(fmt.Errorf("while testing: %w", tc.err))
		f, ok := errors.AsType[*Fault](err)
		text := strings.ReplaceAll(err.Error(), "while testing: ", "")
		if !ok || f.Kind != tc.kind || !strings.Contains(text, tc.want) || !errors.Is(err, tc.err) {
			t.Errorf("%v: kind %d, %v; want %d, %q", tc.err, f.Kind, err, tc.kind, tc.want)
		}
		if again := tc.target.Explain(fmt.Errorf("outside: %w", err)); again != err { //nolint:errorlint // the very same
			t.Errorf("explained again: %v", again)
		}
	}
	if s3.Explain(nil) != nil {
		t.Error("no error is explained")
	}
}
