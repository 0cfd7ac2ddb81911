package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"dstack/controller/backends"
)

// meaning is what a code of AWS means for the engine and the user.
type meaning struct {
	kind   backends.Kind
	remedy string
	field  []string
	// family of a limit.
	family string
}

// Words for the user.
const (
	checkClock  = "Set the clock of the server's host: AWS accepts requests for some minutes only"
	checkCreds  = "Check creds of the backend; regions that need opting in refuse keys until they are enabled in the account" //nolint:gosec // words
	raiseLimit  = "Ask for more under Service Quotas in the AWS console, or use other machine types"
	grantAction = "Add it to the policy of the user or role"
	noProfile   = "Name an instance profile there that the account has"
	ourUserData = "The server writes the user-data, not you: report this, and use another backend or hosts of your own meanwhile"
)

// meanings are the codes that AWS documents, with those that 0.22.5 met
// (backends.md 3.1). What is not here is Transient, since it may have acted.
var meanings = func() map[string]meaning {
	m := map[string]meaning{}
	add := func(of meaning, codes ...string) {
		for _, code := range codes {
			m[code] = of
		}
	}
	add(meaning{kind: backends.NoCapacity},
		"InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity", "InsufficientCapacity",
		"InsufficientVolumeCapacity", "InsufficientFreeAddressesInSubnet", "SpotMaxPriceTooLow", "ReservationCapacityExceeded")
	add(meaning{kind: backends.Quota, remedy: raiseLimit},
		"VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VolumeLimitExceeded", "AddressLimitExceeded",
		"SecurityGroupLimitExceeded", "MaxIOPSLimitExceeded", "PlacementGroupLimitExceeded", "SecurityGroupsPerInstanceLimitExceeded")
	add(meaning{kind: backends.Auth, remedy: checkCreds, field: []string{"creds"}},
		"AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidAccessKeyId",
		"ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "MissingAuthenticationToken", "InvalidSignatureException",
		"OptInRequired", "Blocked", "PendingVerification")
	add(meaning{kind: backends.Auth, remedy: checkClock}, "RequestExpired", "RequestTimeTooSkewed")
	add(meaning{kind: backends.Permission, remedy: grantAction}, "UnauthorizedOperation", "AccessDenied", "AccessDeniedException")
	add(meaning{kind: backends.Permission, remedy: "Grant it, or let an administrator start one spot machine, which makes the role"},
		"AuthFailure.ServiceLinkedRoleCreationNotPermitted")
	add(meaning{kind: backends.Throttled},
		"RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown", "EC2ThrottledException",
		"RequestThrottled", "RequestThrottledException", "BandwidthLimitExceeded")
	add(meaning{kind: backends.Config}, "InvalidSubnetID.NotFound", "InvalidSubnet", "InvalidSubnetID.Malformed")
	add(meaning{kind: backends.Config, field: []string{"vpc_ids"}, remedy: "Name a VPC of the region there"}, "InvalidVpcID.NotFound", "InvalidVpcID.Malformed")
	add(meaning{kind: backends.Config, field: []string{"os_images"}, remedy: "Name images there that the account may use in this region"},
		"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed", "InvalidAMIName.Malformed")
	add(meaning{kind: backends.Config, field: []string{"iam_instance_profile"}, remedy: noProfile}, "NoSuchEntity")
	// No other machine type would have other user-data.
	add(meaning{kind: backends.Config, remedy: ourUserData}, "InvalidUserData.Malformed")
	add(meaning{kind: backends.BadRequest},
		"InvalidParameterValue", "InvalidParameterCombination", "InvalidParameter", "MissingParameter",
		"InvalidInstanceType", "ValidationError", "InvalidInput", "InvalidBlockDeviceMapping", "TagLimitExceeded", "TagPolicyViolation",
		"IdempotentInstanceTerminated", "InvalidVolume.ZoneMismatch", "InvalidZone.NotFound", "UnknownParameter", "InvalidID", "InvalidTagKey.Malformed")
	add(meaning{kind: backends.NotFound},
		"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "InvalidVolume.NotFound", "InvalidVolumeID.Malformed",
		"InvalidParameterValue.VolumeNotFound", "InvalidAttachment.NotFound", "InvalidPlacementGroup.Unknown",
		"InvalidAllocationID.NotFound", "InvalidAssociationID.NotFound",
		"InvalidCapacityReservationId.NotFound", "InvalidCapacityReservationId.Malformed")
	add(meaning{kind: backends.NotReady},
		// A security group that was just made may not be known everywhere yet.
		"InvalidGroup.NotFound", "IncorrectState", "IncorrectInstanceState", "VolumeInUse", "InvalidPlacementGroup.InUse", "InvalidIPAddress.InUse", "DependencyViolation")
	add(meaning{kind: backends.Unsupported}, "Unsupported", "UnsupportedOperation", "UnsupportedInstanceTypeOnInstancePlacementGroup")
	return m
}()

// refuse is an error of ours, before it is known where it happened.
func refuse(kind backends.Kind, format string, args ...any) *backends.Error {
	return &backends.Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// wrong is an error of a field of the configuration.
func wrong(field []string, format string, args ...any) *backends.Error {
	e := refuse(backends.Config, format, args...)
	e.Field = field
	return e
}

// code is AWS's own, or empty.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// kindOf is the kind of an error of the SDK or of ours; no error is Transient.
func kindOf(err error) backends.Kind {
	var known *backends.Error
	if errors.As(err, &known) {
		return known.Kind
	}
	if m, ok := meanings[code(err)]; ok {
		return m.kind
	}
	return backends.Transient
}

// failed makes an error of the contract of whatever err is.
func (a *Account) failed(ctx context.Context, op, region string, err error) error {
	if err == nil {
		return nil
	}
	var known *backends.Error
	if !errors.As(err, &known) {
		known = translate(err)
		if known.Kind == backends.Permission {
			known.Permission = a.permission(ctx, err)
		}
	}
	known.Backend, known.Op, known.Region = Type, op, region
	return known
}

// translate is pure: what an error of the SDK means.
func translate(err error) *backends.Error {
	out := &backends.Error{Kind: backends.Transient, Message: err.Error(), Err: err}
	var (
		api smithy.APIError
		dns *net.DNSError
	)
	switch {
	case errors.Is(err, context.Canceled):
		out.Message = "the call was given up"
	case errors.Is(err, context.DeadlineExceeded):
		out.Message = "AWS did not answer in time"
	case errors.As(err, &api):
		m := meanings[api.ErrorCode()]
		if m.kind != "" {
			out.Kind = m.kind
		}
		out.Code, out.Message = api.ErrorCode(), plain(api)
		out.Remedy, out.Field, out.Family = m.remedy, m.field, m.family
		refine(out, api.ErrorMessage())
	case errors.As(err, &dns) && dns.IsNotFound:
		out.Kind, out.Message = backends.Config, "there is no such region: the name "+dns.Name+" does not exist"
		out.Field, out.Remedy = []string{"regions"}, "Check the spelling, and the name servers of the server's host"
	case strings.Contains(err.Error(), "get credentials:"):
		out.Kind, out.Message = backends.Auth, "there are no credentials on the server's host"
		out.Field, out.Remedy = []string{"creds"}, "Set creds of type access_key, or give the server's host a role or the AWS_ variables"
	}
	out.Message = discreet(out.Message)
	return out
}

// refine reads from the message what the code leaves open.
func refine(e *backends.Error, message string) {
	switch {
	case e.Code == "InvalidParameterValue" && strings.Contains(message, "IAM Instance Profile"):
		e.Kind, e.Field, e.Remedy = backends.Config, []string{"iam_instance_profile"}, noProfile
	case e.Code == "InsufficientInstanceCapacity":
		// AWS speaks of one zone and one type; all zones were asked.
		e.Message = "no capacity in the zones that were asked"
	case e.Code == "InvalidParameterValue" && strings.Contains(message, "User data is limited"):
		e.Kind, e.Remedy = backends.Config, ourUserData
	case e.Code == "InvalidParameterValue" && strings.Contains(message, "is already in use"):
		// Another volume got the name of a device a moment ago.
		e.Kind = backends.NotReady
	case (e.Code == "SignatureDoesNotMatch" || e.Code == "InvalidSignatureException") && strings.Contains(message, "Signature"+" expired"):
		e.Field, e.Remedy = nil, checkClock
	case strings.HasPrefix(e.Code, "InvalidSubnet"):
		e.Remedy = "What dstack knew of the network is forgotten: try again, or check vpc_name and vpc_ids of the backend"
	}
}

var encoded = regexp.MustCompile(`(?s)\s*Encoded authorization failure message:.*$`)

var (
	arn       = regexp.MustCompile(`arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:(?:\d+|aws)?:([^\s,;)"']*)`)
	accountID = regexp.MustCompile(`\b\d{12}\b`)
)

// discreet is a text without the id of the account: of an ARN it leaves what is
// meant, such as user/x.
func discreet(text string) string {
	return accountID.ReplaceAllString(arn.ReplaceAllString(text, "$1"), "(account)")
}

// plain is the message of AWS without what nobody can read.
func plain(api smithy.APIError) string {
	text := strings.TrimRight(encoded.ReplaceAllString(api.ErrorMessage(), ""), ". \n")
	if text == "" {
		return api.ErrorCode()
	}
	return text
}

var (
	deniedAction   = regexp.MustCompile(`not authorized to perform: ([A-Za-z0-9-]+:[A-Za-z0-9]+)`)
	encodedMessage = regexp.MustCompile(`Encoded authorization failure message:\s*(\S+)`)
)

// permission is the one that is missing: as the message says, as the encoded
// message says if we may decode it, or else that of the call.
func (a *Account) permission(ctx context.Context, err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	if api.ErrorCode() == "AuthFailure.ServiceLinkedRoleCreationNotPermitted" {
		return "iam:CreateServiceLinkedRole"
	}
	if found := deniedAction.FindStringSubmatch(api.ErrorMessage()); found != nil {
		return found[1]
	}
	if found := encodedMessage.FindStringSubmatch(api.ErrorMessage()); found != nil && a.sts != nil {
		out, decodeErr := a.sts.DecodeAuthorizationMessage(ctx, &sts.DecodeAuthorizationMessageInput{EncodedMessage: &found[1]})
		if decodeErr == nil && out.DecodedMessage != nil {
			if action := decodedAction(*out.DecodedMessage); action != "" {
				return action
			}
		}
	}
	return calledAction(err)
}

// decodedAction reads what STS makes of an encoded message.
func decodedAction(message string) string {
	var decoded struct {
		Context struct {
			Action string `json:"action"`
		} `json:"context"`
	}
	if json.Unmarshal([]byte(message), &decoded) != nil {
		return ""
	}
	return decoded.Context.Action
}

// calledAction is the permission that a call itself needs.
func calledAction(err error) string {
	var op *smithy.OperationError
	if !errors.As(err, &op) {
		return ""
	}
	service := strings.ToLower(strings.ReplaceAll(op.Service(), " ", ""))
	return service + ":" + op.Operation()
}
