package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// Fault is something wrong with a replica: one sentence with its URL, and
// what to do.
type Fault struct { //nolint:errname // "fault" says it
	Target  Target
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

// fault makes a fault that shows its cause.
func (t Target) fault(problem, remedy string, err error) error {
	return &Fault{Target: t, Problem: problem, Remedy: remedy, Err: err, show: true}
}

// HeldError means that another server holds the lease.
type HeldError struct {
	Target Target
	Owner  string
	Until  time.Time
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s: server %s holds the lease until %s: only one server may run; stop that one, or start this one with --wait-for-lease",
		e.Target, e.Owner, e.Until.UTC().Format("2006-01-02 15:04:05 UTC"))
}

// LostError means that another server took the lease over, while this one
// could not renew it.
type LostError struct {
	Target Target
	Owner  string // empty: unknown
}

func (e *LostError) Error() string {
	by := ""
	if e.Owner != "" {
		by = " to " + e.Owner
	}
	return fmt.Sprintf("%s: the lease was lost%s: this server stops and writes nothing more; what the replica does not have of it stays in its local database", e.Target, by)
}

// explain makes a sentence of an error of a storage.
func (t Target) explain(err error) error {
	_, fault := errors.AsType[*Fault](err)
	_, held := errors.AsType[*HeldError](err)
	if err == nil || fault || held || errors.Is(err, errNoLease) {
		return err
	}
	kind := "bucket"
	if t.Scheme == schemeAzure {
		kind = "container"
	}
	status, code := answer(err)
	switch {
	case code == "NoSuchBucket" || code == "ContainerNotFound",
		status == http.StatusNotFound:
		return &Fault{Target: t, Problem: "the " + kind + " does not exist", Remedy: "create it, or correct the URL", Err: err}
	case status == http.StatusUnauthorized || code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch" || code == "AuthenticationFailed":
		return &Fault{Target: t, Problem: "the storage does not accept the credentials", Remedy: "correct " + t.variables(), Err: err}
	case status == http.StatusForbidden:
		return &Fault{Target: t, Problem: "these credentials may not read, list, write and delete there", Remedy: "give them the rights, or use others: " + t.variables(), Err: err}
	case noCredentials(err):
		return &Fault{Target: t, Problem: "there are no usable credentials", Remedy: "set " + t.variables(), Err: err}
	case unreachable(err):
		return t.fault("the storage can't be reached", "check the network and the URL", err)
	}
	return t.fault("the storage failed", "see the cause", err)
}

// variables are where the credentials of a storage are taken from.
func (t Target) variables() string {
	switch t.Scheme {
	case schemeS3:
		return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	case schemeGCS:
		return gcsFile + " or " + gcsJSON
	}
	return azureKey
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

// oneLine is the innermost text of an error, short.
func oneLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	const limit = 300
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return text
}

// maxObject bounds what is read into memory: leases are a few hundred bytes.
const maxObject = 64 << 10

func readAll(r io.ReadCloser) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxObject))
	return data, errors.Join(err, r.Close())
}
