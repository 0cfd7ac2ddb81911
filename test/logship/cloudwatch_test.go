//go:build e2e

package logship

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"dstack/test/lab"
	"dstack/test/storages"
)

// moto is CloudWatch with an empty group "jobs".
func moto(t *testing.T) (*storages.Proxy, []string) {
	t.Helper()
	p := storages.StartBehind(t, func(port string) *exec.Cmd {
		return exec.Command(filepath.Join(lab.Home, "moto", "bin", "moto_server"), "-H", "127.0.0.1", "-p", port)
	})
	client := cloudwatchlogs.New(cloudwatchlogs.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String("http://" + p.Address), Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
	_, err := client.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("jobs")})
	must(t, err)
	return p, []string{
		"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=http://" + p.Address,
		"AWS_REGION=", "AWS_DEFAULT_REGION=", "AWS_CA_BUNDLE=", "AWS_SESSION_TOKEN=",
		"DSTACK_SERVER_CLOUDWATCH_LOG_GROUP=jobs", "DSTACK_SERVER_CLOUDWATCH_LOG_REGION=eu-west-1",
	}
}

func TestCloudWatch(t *testing.T) {
	t.Parallel()
	p, env := moto(t)
	exercise(t, &place{env: env, proxy: p, link: "eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:log-groups/log-group/jobs/log-events/main$252Ftalker$252F"})
}

func TestCloudWatchRefusals(t *testing.T) {
	_, env := moto(t)
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"no group":       {[]string{"DSTACK_SERVER_CLOUDWATCH_LOG_GROUP=none"}, "cannot start: CloudWatch log group none in eu-west-1: the group does not exist; create it, or correct DSTACK_SERVER_CLOUDWATCH_LOG_GROUP"},
		"no region":      {[]string{"DSTACK_SERVER_CLOUDWATCH_LOG_REGION="}, "the region of CloudWatch log group jobs is not known; set DSTACK_SERVER_CLOUDWATCH_LOG_REGION"},
		"no credentials": {[]string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_EC2_METADATA_DISABLED=true"}, "there are no usable credentials; set AWS_ACCESS_KEY_ID"},
	} {
		t.Run(name, func(t *testing.T) {
			if text := refused(t, slices.Concat(env, tt.env)...); !strings.Contains(text, tt.want) {
				t.Errorf("%s\nwant %s", text, tt.want)
			}
		})
	}
}
