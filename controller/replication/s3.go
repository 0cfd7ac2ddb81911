package replication

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/benbjohnson/litestream"
	litestreams3 "github.com/benbjohnson/litestream/s3"
)

// s3Objects is a bucket of S3, or of a storage with its protocol.
type s3Objects struct {
	api    *s3.Client
	bucket string
}

func connectS3(ctx context.Context, t Target, getenv func(string) string) (*remote, error) {
	id, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	if (id == "") != (secret == "") {
		return nil, t.fault("only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set", "set both", nil)
	}
	made, err := litestreams3.NewReplicaClientFromURL(t.Scheme, t.Bucket, t.Path, t.query, nil)
	if err != nil {
		return nil, t.fault("the URL is not usable", "correct "+Variable, err)
	}
	client, ok := made.(*litestreams3.ReplicaClient)
	if !ok {
		return nil, fmt.Errorf("litestream made a client of another kind: %T", made)
	}
	if endpoint := cmp.Or(getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL")); endpoint != "" && t.query.Get("endpoint") == "" {
		client.Endpoint = endpoint
		client.ForcePathStyle = t.query.Get("forcePathStyle") != "false"
	}
	client.Region = cmp.Or(client.Region, getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"))
	if client.Region == "" && client.Endpoint != "" {
		client.Region = litestreams3.DefaultRegion
	}
	if getenv("AWS_SESSION_TOKEN") != "" {
		// Litestream would use the keys without the token; the SDK reads all three.
		client.AccessKeyID, client.SecretAccessKey = "", ""
	}
	if getenv("AWS_CA_BUNDLE") != "" {
		// Litestream's HTTP client is of a kind for which the SDK refuses it.
		return nil, t.fault("AWS_CA_BUNDLE does not work with Litestream", "name the certificates by SSL_CERT_FILE instead, and unset it", nil)
	}
	o := &s3Objects{bucket: t.Bucket}
	if o.api, err = o.open3(ctx, client); err != nil {
		return nil, t.explain(err)
	}
	return &remote{objects: o, client: client}, nil
}

// open3 makes the SDK's client with the settings of Litestream's.
func (o *s3Objects) open3(ctx context.Context, c *litestreams3.ReplicaClient) (*s3.Client, error) {
	var options []func(*config.LoadOptions) error
	if c.AccessKeyID != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, "")))
	}
	region := cmp.Or(c.Region, litestreams3.DefaultRegion)
	cfg, err := config.LoadDefaultConfig(ctx, append(options, config.WithRegion(region))...)
	if err != nil {
		return nil, fmt.Errorf("read settings of AWS: %w", err)
	}
	set := func(s *s3.Options) {
		s.UsePathStyle = c.ForcePathStyle
		if c.Endpoint != "" {
			s.BaseEndpoint = &c.Endpoint
			// Other storages do not know the checksums of AWS.
			s.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			s.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	}
	api := s3.NewFromConfig(cfg, set)
	if c.Region != "" {
		return api, nil
	}
	head, err := api.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &o.bucket})
	// A bucket elsewhere answers with an error that names its region.
	found := ""
	if head != nil {
		found = aws.ToString(head.BucketRegion)
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.Response != nil {
		found = e.Response.Header.Get("X-Amz-Bucket-Region")
	}
	if found == "" && err != nil {
		return nil, fmt.Errorf("find the region of the bucket: %w", err)
	}
	c.Region = cmp.Or(found, region)
	cfg.Region = c.Region
	return s3.NewFromConfig(cfg, set), nil
}

func (o *s3Objects) get(ctx context.Context, key string) ([]byte, string, error) {
	out, err := o.api.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.bucket, Key: &key})
	if err != nil {
		return nil, "", s3Error(err)
	}
	data, err := readAll(out.Body)
	return data, aws.ToString(out.ETag), err
}

func (o *s3Objects) put(ctx context.Context, key string, data []byte, version string) (string, error) {
	in := &s3.PutObjectInput{Bucket: &o.bucket, Key: &key, Body: bytes.NewReader(data), ContentType: aws.String("application/json")}
	if version == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &version
	}
	out, err := o.api.PutObject(ctx, in)
	if err != nil {
		return "", s3Error(err)
	}
	return aws.ToString(out.ETag), nil
}

func (o *s3Objects) remove(ctx context.Context, key, version string) error {
	_, err := o.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &o.bucket, Key: &key, IfMatch: &version})
	if err = s3Error(err); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (o *s3Objects) list(ctx context.Context, prefix string, each func(object)) error {
	pages := s3.NewListObjectsV2Paginator(o.api, &s3.ListObjectsV2Input{Bucket: &o.bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return s3Error(err)
		}
		for _, c := range page.Contents {
			each(object{key: aws.ToString(c.Key), size: aws.ToInt64(c.Size), changed: aws.ToTime(c.LastModified)})
		}
	}
	return nil
}

func (o *s3Objects) open(ctx context.Context, key string) (io.ReadCloser, error) {
	out, err := o.api.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.bucket, Key: &key})
	if err != nil {
		return nil, s3Error(err)
	}
	return out.Body, nil
}

func (o *s3Objects) close() {} // the SDK keeps idle connections to itself

// s3Error marks what the callers of objects tell apart.
func s3Error(err error) error {
	switch code := s3Code(err); code {
	case "NoSuchKey", "NotFound":
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case "PreconditionFailed", "ConditionalRequestConflict", "412":
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return err
}

var _ litestream.ReplicaClientV3 = (*litestreams3.ReplicaClient)(nil)
