package objects

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
)

// defaultRegion is that of storages which have none, and where the search for
// a bucket of AWS begins.
const defaultRegion = "us-east-1"

// S3 are the settings of a bucket of S3, or of a storage with its protocol.
type S3 struct {
	// Endpoint is empty for AWS.
	Endpoint string
	// Region is found out by OpenS3 if it is empty.
	Region string
	// PathStyle names the bucket in the path instead of in the host's name.
	PathStyle bool
	// KeyID and Secret are empty for the credentials that the SDK finds: the
	// usual variables, a profile, the role of the machine.
	KeyID, Secret string
}

// FillIn adds what the environment says: the usual variables of AWS.
func (s *S3) FillIn(getenv func(string) string) {
	if endpoint := cmp.Or(getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL")); endpoint != "" && s.Endpoint == "" {
		s.Endpoint, s.PathStyle = endpoint, true
	}
	s.Region = cmp.Or(s.Region, getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"))
	if s.Region == "" && s.Endpoint != "" {
		s.Region = defaultRegion
	}
}

// CheckS3Keys says whether the variables with the keys can be what is meant.
func (t Target) CheckS3Keys(getenv func(string) string) error {
	id, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	if (id == "") != (secret == "") {
		return t.Fault("only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set", "set both", nil)
	}
	return nil
}

// s3Bucket is a bucket with its client.
type s3Bucket struct {
	api    *s3.Client
	bucket string
}

// OpenS3 opens a bucket, and fills in its region if that is not known. Only
// for that it asks the storage. Errors are sentences.
func OpenS3(ctx context.Context, t Target, set *S3) (*Bucket, error) {
	b := &s3Bucket{bucket: t.Bucket}
	if err := b.connect(ctx, set); err != nil {
		return nil, t.Explain(err)
	}
	return &Bucket{target: t, driver: b}, nil
}

func (o *s3Bucket) connect(ctx context.Context, set *S3) error {
	var options []func(*config.LoadOptions) error
	if set.KeyID != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(set.KeyID, set.Secret, "")))
	}
	region := cmp.Or(set.Region, defaultRegion)
	cfg, err := config.LoadDefaultConfig(ctx, append(options, config.WithRegion(region))...)
	if err != nil {
		return fmt.Errorf("read settings of AWS: %w", err)
	}
	apply := func(s *s3.Options) {
		s.UsePathStyle = set.PathStyle
		if set.Endpoint != "" {
			s.BaseEndpoint = &set.Endpoint
			// Other storages do not know the checksums of AWS.
			s.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			s.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	}
	o.api = s3.NewFromConfig(cfg, apply)
	if set.Region != "" {
		return nil
	}
	if set.Region, err = o.region(ctx, region); err != nil {
		return err
	}
	cfg.Region = set.Region
	o.api = s3.NewFromConfig(cfg, apply)
	return nil
}

// region asks where a bucket is; otherwise is for those who do not say.
func (o *s3Bucket) region(ctx context.Context, otherwise string) (string, error) {
	head, err := o.api.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &o.bucket})
	// A bucket elsewhere answers with an error that names its region.
	found := ""
	if head != nil {
		found = aws.ToString(head.BucketRegion)
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.Response != nil {
		found = e.Response.Header.Get("X-Amz-Bucket-Region")
	}
	if found == "" && err != nil {
		return "", fmt.Errorf("find the region of the bucket: %w", err)
	}
	return cmp.Or(found, otherwise), nil
}

func (o *s3Bucket) get(ctx context.Context, key string) (io.ReadCloser, Object, error) {
	out, err := o.api.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.bucket, Key: &key})
	if err != nil {
		return nil, Object{}, s3Error(err)
	}
	return out.Body, Object{
		Key: key, Size: aws.ToInt64(out.ContentLength), Changed: aws.ToTime(out.LastModified), Version: aws.ToString(out.ETag),
	}, nil
}

func (o *s3Bucket) stat(ctx context.Context, key string) (Object, error) {
	out, err := o.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &o.bucket, Key: &key})
	if err != nil {
		return Object{}, s3Error(err)
	}
	return Object{
		Key: key, Size: aws.ToInt64(out.ContentLength), Changed: aws.ToTime(out.LastModified), Version: aws.ToString(out.ETag),
	}, nil
}

func (o *s3Bucket) put(ctx context.Context, key string, content io.ReadSeeker) error {
	_, err := o.api.PutObject(ctx, &s3.PutObjectInput{Bucket: &o.bucket, Key: &key, Body: content})
	return s3Error(err)
}

func (o *s3Bucket) swap(ctx context.Context, key string, data []byte, version string) (string, error) {
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

func (o *s3Bucket) remove(ctx context.Context, key, version string) error {
	in := &s3.DeleteObjectInput{Bucket: &o.bucket, Key: &key}
	if version != "" {
		in.IfMatch = &version
	}
	_, err := o.api.DeleteObject(ctx, in)
	return s3Error(err)
}

func (o *s3Bucket) list(ctx context.Context, prefix string, each func(Object)) error {
	pages := s3.NewListObjectsV2Paginator(o.api, &s3.ListObjectsV2Input{Bucket: &o.bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return s3Error(err)
		}
		for _, c := range page.Contents {
			each(Object{Key: aws.ToString(c.Key), Size: aws.ToInt64(c.Size), Changed: aws.ToTime(c.LastModified), Version: aws.ToString(c.ETag)})
		}
	}
	return nil
}

func (o *s3Bucket) close() {} // the SDK keeps idle connections to itself

// s3Error marks what users of a bucket tell apart.
func s3Error(err error) error {
	switch code := s3Code(err); code {
	case "NoSuchKey", "NotFound":
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case "PreconditionFailed", "ConditionalRequestConflict", "412":
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}
