package aws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"dstack/controller/backends"
)

func apiError(code, message string) error {
	return &smithy.OperationError{ServiceID: "EC2", OperationName: "RunInstances", Err: &smithy.GenericAPIError{Code: code, Message: message}}
}

func TestMeanings(t *testing.T) {
	want := map[string]backends.Kind{
		"InsufficientInstanceCapacity":           backends.NoCapacity,
		"InsufficientFreeAddressesInSubnet":      backends.NoCapacity,
		"SpotMaxPriceTooLow":                     backends.NoCapacity,
		"ReservationCapacityExceeded":            backends.NoCapacity,
		"VcpuLimitExceeded":                      backends.Quota,
		"MaxSpotInstanceCountExceeded":           backends.Quota,
		"VolumeLimitExceeded":                    backends.Quota,
		"AddressLimitExceeded":                   backends.Quota,
		"AuthFailure":                            backends.Auth,
		"InvalidClientTokenId":                   backends.Auth,
		"SignatureDoesNotMatch":                  backends.Auth,
		"RequestExpired":                         backends.Auth,
		"ExpiredToken":                           backends.Auth,
		"OptInRequired":                          backends.Auth,
		"UnauthorizedOperation":                  backends.Permission,
		"AccessDenied":                           backends.Permission,
		"RequestLimitExceeded":                   backends.Throttled,
		"Throttling":                             backends.Throttled,
		"InvalidSubnetID.NotFound":               backends.Config,
		"InvalidVpcID.NotFound":                  backends.Config,
		"InvalidAMIID.NotFound":                  backends.Config,
		"NoSuchEntity":                           backends.Config,
		"InvalidParameterValue":                  backends.BadRequest,
		"InvalidUserData.Malformed":              backends.Config,
		"InvalidVolume.ZoneMismatch":             backends.BadRequest,
		"InvalidInstanceID.NotFound":             backends.NotFound,
		"InvalidVolume.NotFound":                 backends.NotFound,
		"InvalidPlacementGroup.Unknown":          backends.NotFound,
		"InvalidCapacityReservationId.Malformed": backends.NotFound,
		"VolumeInUse":                            backends.NotReady,
		"IncorrectState":                         backends.NotReady,
		"InvalidPlacementGroup.InUse":            backends.NotReady,
		"Unsupported":                            backends.Unsupported,
		"InvalidGroup.NotFound":                  backends.NotReady,
		"IdempotentInstanceTerminated":           backends.BadRequest,
		"InternalError":                          backends.Transient,
		"SomethingNew":                           backends.Transient,
	}
	for code, kind := range want {
		words := "Some words"
		if code == "InsufficientInstanceCapacity" {
			words = "no capacity in the zones that were asked"
		}
		if got := translate(apiError(code, "Some words.")); got.Kind != kind || got.Code != code || got.Message != words {
			t.Errorf("%s: want %s, got %+v", code, kind, got)
		}
		if got := kindOf(apiError(code, "")); got != kind {
			t.Errorf("kind of %s: %s", code, got)
		}
	}
}

func TestTranslate(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		kind   backends.Kind
		field  string
		remedy string
	}{
		{
			name: "profile", kind: backends.Config, field: "iam_instance_profile",
			err: apiError("InvalidParameterValue", "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"),
		},
		{name: "user-data", kind: backends.Config, remedy: ourUserData, err: apiError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")},
		{name: "much user-data", kind: backends.Config, remedy: ourUserData, err: apiError("InvalidParameterValue", "User data is limited to 16384 bytes")},
		{name: "clock", err: apiError("RequestExpired", "Request has expired."), kind: backends.Auth, remedy: checkClock},
		{
			name: "clock in the signature", kind: backends.Auth, remedy: checkClock,
			err: apiError("SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier than 20260102T000000Z"),
		},
		{name: "wrong secret", err: apiError("SignatureDoesNotMatch", "it does not match"), kind: backends.Auth, field: "creds", remedy: checkCreds},
		{
			name: "device in use", kind: backends.NotReady,
			err: apiError("InvalidParameterValue", "Invalid value '/dev/sdf' for unixDevice. Attachment point /dev/sdf is already in use"),
		},
		{name: "given up", err: fmt.Errorf("send: %w", context.Canceled), kind: backends.Transient},
		{name: "connection", err: fmt.Errorf("send: %w", net.ErrClosed), kind: backends.Transient},
		{name: "region", err: &net.DNSError{Name: "ec2.mars-1.amazonaws.com", IsNotFound: true}, kind: backends.Config, field: "regions"},
		{name: "name server", err: &net.DNSError{Name: "ec2.mars-1.amazonaws.com", IsTemporary: true}, kind: backends.Transient},
		{name: "no credentials", err: errors.New("get identity: get credentials: no EC2 IMDS role found"), kind: backends.Auth, field: "creds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := translate(c.err)
			if got.Kind != c.kind || strings.Join(got.Field, ".") != c.field || c.remedy != "" && got.Remedy != c.remedy {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestPermission(t *testing.T) {
	for _, c := range []struct{ name, code, message, want string }{
		{
			"named", "UnauthorizedOperation",
			"You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to perform: ec2:CreateTags on resource: *",
			"ec2:CreateTags",
		},
		{"not named", "UnauthorizedOperation", "You are not authorized to perform this operation.", "ec2:RunInstances"},
		{"spot role", "AuthFailure.ServiceLinkedRoleCreationNotPermitted", "no", "iam:CreateServiceLinkedRole"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := (&Account{}).failed(t.Context(), "create", "us-east-1", apiError(c.code, c.message))
			var got *backends.Error
			if !errors.As(err, &got) || got.Kind != backends.Permission || got.Permission != c.want || got.Region != "us-east-1" {
				t.Errorf("%+v", got)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("the user reads %q", err)
			}
		})
	}
	if got := decodedAction(`{"allowed":false,"context":{"action":"iam:PassRole"}}`); got != "iam:PassRole" {
		t.Errorf("decoded: %q", got)
	}
	secret := translate(apiError("UnauthorizedOperation", "No. Encoded authorization failure message: abc123\ndef"))
	if secret.Message != "No" {
		t.Errorf("the message is %q", secret.Message)
	}
}

// TestAccountIsNotTold: what a user reads names no account.
func TestAccountIsNotTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ code, says, want string }{
		"a user": {
			"UnauthorizedOperation",
			"You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ec2:RunInstances " +
				"on resource: arn:aws:ec2:us-east-1:123456789012:instance/* because no identity-based policy allows the ec2:RunInstances action",
			"You are not authorized to perform this operation. User: user/ci is not authorized to perform: ec2:RunInstances " +
				"on resource: instance/* because no identity-based policy allows the ec2:RunInstances action",
		},
		"a role in another partition": {
			"AccessDenied", "User: arn:aws-us-gov:sts::123456789012:assumed-role/server/i-1 is not authorized", "User: assumed-role/server/i-1 is not authorized",
		},
		"an image of Amazon": {"InvalidAMIID.NotFound", "No access to arn:aws:ec2:us-east-1::image/ami-1", "No access to image/ami-1"},
		"a bare number":      {"PendingVerification", "Account 123456789012 is being verified", "Account (account) is being verified"},
		"an unknown code":    {"Strange", "arn:aws:iam::123456789012:role/x", "role/x"},
		"other numbers":      {"VcpuLimitExceeded", "limit of 1234567890123 for i-0123456789012", "limit of 1234567890123 for i-0123456789012"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := (&Account{}).failed(t.Context(), "create", "us-east-1", apiError(c.code, c.says))
			if got := new(backends.Error); !errors.As(err, &got) || got.Message != c.want {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestRetryer(t *testing.T) {
	for code, again := range map[string]bool{"InsufficientInstanceCapacity": false, "InternalError": true, "RequestLimitExceeded": true, "VcpuLimitExceeded": false} {
		status := http.StatusBadRequest
		if code == "InsufficientInstanceCapacity" || code == "InternalError" {
			status = http.StatusInternalServerError
		}
		err := &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: apiError(code, "")}
		if got := retryer().IsErrorRetryable(err); got != again {
			t.Errorf("%s is asked again: %t", code, got)
		}
	}
}

func TestEveryMeaningHasAKind(t *testing.T) {
	kinds := []backends.Kind{
		backends.NoCapacity, backends.Quota, backends.Auth, backends.Permission, backends.Config, backends.BadRequest, backends.NotFound,
		backends.NotReady, backends.Throttled, backends.Unsupported,
	}
	for code, m := range meanings {
		if !slices.Contains(kinds, m.kind) {
			t.Errorf("%s means %q", code, m.kind)
		}
		if m.kind == backends.Quota && m.remedy == "" {
			t.Errorf("%s says nothing to do", code)
		}
	}
}
