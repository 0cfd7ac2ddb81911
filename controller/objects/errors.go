package objects

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// Kind says what sort of fault it is.
type Kind int

// The kinds of faults. What is none of the others is KindOther.
const (
	KindOther Kind = iota
	// KindNoBucket: the bucket does not exist.
	KindNoBucket
	// KindCredentials: there are none, or they are not accepted.
	KindCredentials
	// KindForbidden: they lack a right.
	KindForbidden
	// KindUnreachable: there was no answer, or one that may be another later.
	KindUnreachable
)

// Fault is something wrong with a storage: one sentence with its URL, and
// what to do.
type Fault struct { //nolint:errname // "fault" says it
	Target  Target
	Kind    Kind
	Problem string
	Remedy  string
	Err     error // the cause, may be nil; shown only if the problem needs it
	show    bool
}

func (f *Fault) Error() string {
	s := f.Target.String() + ": " + f.Problem
	if f.show && f.Err != nil {
		s += " (" + oneLine(f.Err) + ")"
	}
	return s + "; " + f.Remedy
}

func (f *Fault) Unwrap() error { return f.Err }

// Fault makes a fault that shows its cause.
func (t Target) Fault(problem, remedy string, err error) error {
	return &Fault{Target: t, Problem: problem, Remedy: remedy, Err: err, show: true}
}

// Explain makes a [*Fault] of an error of a storage.
func (t Target) Explain(err error) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	place, named := "bucket", "the URL"
	if t.Scheme == SchemeAzure {
		place = "container"
	}
	if t.Setting != "" {
		named = t.Setting
	}
	f := &Fault{Target: t, Err: err}
	switch status, code := answer(err); {
	case code == "NoSuchBucket" || code == "ContainerNotFound",
		status == http.StatusNotFound:
		f.Kind, f.Problem, f.Remedy = KindNoBucket, "the "+place+" does not exist", "create it, or correct "+named
	case status == http.StatusUnauthorized || code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch" || code == "AuthenticationFailed":
		f.Kind, f.Problem, f.Remedy = KindCredentials, "the storage does not accept the credentials", "correct "+t.variables()
	case status == http.StatusForbidden:
		f.Kind, f.Problem = KindForbidden, "these credentials may not read, list, write and delete there"
		f.Remedy = "give them the rights, or use others: " + t.variables()
	case status == http.StatusMovedPermanently || code == "AuthorizationHeaderMalformed":
		f.Problem, f.Remedy = "the bucket is in another region", "correct the region, or leave it out: it is found then"
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		f.Kind, f.Problem, f.Remedy, f.show = KindUnreachable, "the storage does not work now", "try again later", true
	case noCredentials(err):
		f.Kind, f.Problem, f.Remedy = KindCredentials, "there are no usable credentials", "set "+t.variables()
	case unreachable(err):
		f.Kind, f.Problem, f.Remedy, f.show = KindUnreachable, "the storage can't be reached", "check the network and "+named, true
	default:
		f.Problem, f.Remedy, f.show = "the storage failed", "see the cause", true
	}
	return f
}

// variables are where the credentials of a storage are taken from.
func (t Target) variables() string {
	switch t.Scheme {
	case SchemeS3:
		return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	case SchemeGCS:
		return gcsFile + " or " + gcsJSON
	}
	if t.Setting != "" {
		return azureKey
	}
	return azureReplicaKey
}

// answer is the storage's status and its code for the error, if it answered.
func answer(err error) (status int, code string) {
	if e, ok := errors.AsType[*gcsError](err); ok {
		return e.Status, ""
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.StatusCode, e.ErrorCode
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = e.HTTPStatusCode()
	}
	return status, s3Code(err)
}

// s3Code is the code of an error of S3, or its status where it has no body.
func s3Code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// noCredentials says whether a request was not even made for want of them.
// The SDKs have no types for it.
func noCredentials(err error) bool {
	text := err.Error()
	for _, part := range []string{"credentials", "DefaultAzureCredential", "IMDS"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func unreachable(err error) bool {
	_, isNet := errors.AsType[net.Error](err)
	return isNet || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, io.ErrUnexpectedEOF)
}

// query finds what follows the path of a URL: a token of Azure is there.
var query = regexp.MustCompile(`(https?://[^\s"?]*)\?[^\s"]*`)

// Discreet leaves the queries of URLs out of the text of an error or of a log.
func Discreet(text string) string { return query.ReplaceAllString(text, "$1") }

// oneLine is the innermost text of an error, short.
func oneLine(err error) string {
	text, _, _ := strings.Cut(Discreet(err.Error()), "\n")
	const limit = 300
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return text
}

// maxAnswer bounds what is read into memory.
const maxAnswer = 64 << 10

func readAll(r io.ReadCloser) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxAnswer))
	return data, errors.Join(err, r.Close())
}
