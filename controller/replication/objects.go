package replication

import (
	"context"
	"fmt"
	"io"

	"github.com/benbjohnson/litestream"
	"github.com/benbjohnson/litestream/abs"
	litestreams3 "github.com/benbjohnson/litestream/s3"

	"dstack/controller/objects"
)

// Variable names the replica in the environment (spec: server-operations.md 14).
const Variable = "LITESTREAM_REPLICA_URL"

// storage is an object storage as leases need it, and old replicas; see
// [objects.Bucket]. Keys are whole: they hold the path of the replica.
type storage interface {
	Read(ctx context.Context, key string) (data []byte, version string, err error)
	Write(ctx context.Context, key string, data []byte, version string) (string, error)
	Remove(ctx context.Context, key, version string) error
	List(ctx context.Context, prefix string, each func(objects.Object)) error
	Get(ctx context.Context, key string) (io.ReadCloser, objects.Object, error)
	Close()
}

// remote is an open target.
type remote struct {
	bucket storage
	client litestream.ReplicaClient
}

// connect opens a target with the credentials of the environment. Nothing is
// asked of the storage yet, except in which region a bucket of AWS is.
func connect(ctx context.Context, t objects.Target, getenv func(string) string) (*remote, error) {
	switch t.Scheme {
	case objects.SchemeS3:
		return connectS3(ctx, t, getenv)
	case objects.SchemeGCS:
		b, err := objects.OpenGCS(ctx, t, getenv)
		if err != nil {
			return nil, err
		}
		return &remote{bucket: b.Bucket(), client: &gcsReplica{GCS: b, path: t.Path}}, nil
	}
	return connectAzure(t, getenv)
}

func connectS3(ctx context.Context, t objects.Target, getenv func(string) string) (*remote, error) {
	if err := t.CheckS3Keys(getenv); err != nil {
		return nil, err
	}
	made, err := litestreams3.NewReplicaClientFromURL(t.Scheme, t.Bucket, t.Path, t.Query, nil)
	if err != nil {
		return nil, t.Fault("the URL is not usable", "correct "+Variable, err)
	}
	client, ok := made.(*litestreams3.ReplicaClient)
	if !ok {
		return nil, fmt.Errorf("litestream made a client of another kind: %T", made)
	}
	set := objects.S3{
		Endpoint: client.Endpoint, Region: client.Region, PathStyle: client.ForcePathStyle,
		KeyID: client.AccessKeyID, Secret: client.SecretAccessKey,
	}
	set.FillIn(getenv)
	set.PathStyle = set.PathStyle && t.Query.Get("forcePathStyle") != "false"
	if getenv("AWS_SESSION_TOKEN") != "" {
		// Litestream would use the keys without the token; the SDK reads all three.
		set.KeyID, set.Secret = "", ""
	}
	if getenv("AWS_CA_BUNDLE") != "" {
		// Litestream's HTTP client is of a kind for which the SDK refuses it.
		return nil, t.Fault("AWS_CA_BUNDLE does not work with Litestream", "name the certificates by SSL_CERT_FILE instead, and unset it", nil)
	}
	b, err := objects.OpenS3(ctx, t, &set)
	if err != nil {
		return nil, err
	}
	client.Endpoint, client.Region, client.ForcePathStyle = set.Endpoint, set.Region, set.PathStyle
	client.AccessKeyID, client.SecretAccessKey = set.KeyID, set.Secret
	return &remote{bucket: b, client: client}, nil
}

func connectAzure(t objects.Target, getenv func(string) string) (*remote, error) {
	set := objects.AzureFrom(t, getenv)
	b, err := objects.OpenAzure(t, set)
	if err != nil {
		return nil, err
	}
	client := abs.NewReplicaClient()
	client.AccountName, client.Bucket, client.Path = t.Account, t.Bucket, t.Path
	client.AccountKey, client.SASToken, client.Endpoint = set.Key, set.SAS, set.Endpoint
	return &remote{bucket: b, client: client}, nil
}

var _ litestream.ReplicaClientV3 = (*litestreams3.ReplicaClient)(nil)
