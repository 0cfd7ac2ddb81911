package cloudwatch

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"

	"dstack/controller/logs/ship"
)

// explain makes a sentence of an error of CloudWatch.
func (g *Group) explain(err error) error {
	if err == nil {
		return nil
	}
	fault := func(problem, remedy string) error {
		return fmt.Errorf("CloudWatch log group %s in %s: %s; %s", g.group, g.region, problem, remedy)
	}
	code := ""
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code = e.ErrorCode()
	}
	status := 0
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = e.HTTPStatusCode()
	}
	_, absent := errors.AsType[*types.ResourceNotFoundException](err)
	switch {
	case absent:
		return fault("the group does not exist", "create it, or correct "+VariableGroup+" and "+VariableRegion)
	case code == "AccessDeniedException":
		return fault("these credentials lack a right", "allow logs:DescribeLogStreams, CreateLogStream, GetLogEvents and PutLogEvents")
	case code == "UnrecognizedClientException" || code == "InvalidSignatureException" || code == "ExpiredTokenException" || code == "InvalidClientTokenId",
		status == http.StatusUnauthorized:
		return fault("AWS does not accept the credentials", "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	case code == "InvalidParameterException":
		return fault("CloudWatch does not accept the request ("+err.Error()+")", "correct "+VariableGroup)
	case status == 0 && strings.Contains(err.Error(), "credentials"): // the SDK has no type for it
		return fault("there are no usable credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role")
	}
	return &ship.UnreachableError{Err: fmt.Errorf("CloudWatch log group %s in %s: CloudWatch can't be reached, or fails: %w", g.group, g.region, err)}
}
