package objects

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// Where the credentials of an account of Azure are: those for a replica have
// Litestream's names.
const (
	azureKey        = "AZURE_STORAGE_KEY"
	azureSAS        = "AZURE_STORAGE_SAS_TOKEN"
	azureReplicaKey = "LITESTREAM_AZURE_ACCOUNT_KEY"
	azureReplicaSAS = "LITESTREAM_AZURE_SAS_TOKEN"
)

// Azure are the settings of a container of Azure Blob Storage. Without a key
// and a token the credentials are those that the SDK finds.
type Azure struct {
	// Endpoint is that of the account; empty: the usual one.
	Endpoint string
	Key, SAS string
}

// AzureFrom reads the settings of a container.
func AzureFrom(t Target, getenv func(string) string) Azure {
	a := Azure{Endpoint: t.Query.Get("endpoint"), Key: getenv(azureReplicaKey), SAS: getenv(azureReplicaSAS)}
	if key, sas := getenv(azureKey), getenv(azureSAS); t.Setting != "" && key+sas != "" {
		a.Key, a.SAS = key, sas
	}
	return a
}

// azureBox is a container.
type azureBox struct {
	http *http.Client
	box  *container.Client
}

// OpenAzure opens a container. Nothing is asked of it yet. Errors are sentences.
func OpenAzure(t Target, set Azure) (*Bucket, error) {
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the standard HTTP transport was replaced")
	}
	o := &azureBox{http: &http.Client{Transport: transport.Clone()}}
	api, err := o.connect(t, set)
	if err != nil {
		return nil, t.Fault("the credentials are not usable", "set "+t.variables()+" to a key of the account", err)
	}
	o.box = api.ServiceClient().NewContainerClient(t.Bucket)
	return &Bucket{target: t, driver: o}, nil
}

// connect takes the first credentials there are, in Litestream's order.
func (o *azureBox) connect(t Target, set Azure) (*azblob.Client, error) {
	endpoint := cmp.Or(set.Endpoint, "https://"+t.Account+".blob.core.windows.net")
	// A lease is renewed often: a request that fails is repeated by the keeper.
	options := &azblob.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: o.http, Retry: policy.RetryOptions{MaxRetries: 1}}}
	switch {
	case set.SAS != "":
		return azblob.NewClientWithNoCredential(endpoint+"?"+strings.TrimPrefix(set.SAS, "?"), options)
	case set.Key != "":
		key, err := azblob.NewSharedKeyCredential(t.Account, set.Key)
		if err != nil {
			return nil, fmt.Errorf("read key of the account: %w", err)
		}
		return azblob.NewClientWithSharedKeyCredential(endpoint, key, options)
	}
	around, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fmt.Errorf("find credentials: %w", err)
	}
	return azblob.NewClient(endpoint, around, options)
}

func (o *azureBox) get(ctx context.Context, key string) (io.ReadCloser, Object, error) {
	out, err := o.box.NewBlobClient(key).DownloadStream(ctx, nil)
	if err != nil {
		return nil, Object{}, azureError(err)
	}
	return out.Body, Object{Key: key, Size: *out.ContentLength, Changed: *out.LastModified, Version: string(*out.ETag)}, nil
}

func (o *azureBox) stat(ctx context.Context, key string) (Object, error) {
	out, err := o.box.NewBlobClient(key).GetProperties(ctx, nil)
	if err != nil {
		return Object{}, azureError(err)
	}
	return Object{Key: key, Size: *out.ContentLength, Changed: *out.LastModified, Version: string(*out.ETag)}, nil
}

func (o *azureBox) put(ctx context.Context, key string, content io.ReadSeeker) error {
	_, err := o.box.NewBlockBlobClient(key).Upload(ctx, streaming.NopCloser(content), nil)
	return azureError(err)
}

func (o *azureBox) swap(ctx context.Context, key string, data []byte, version string) (string, error) {
	cond := &blob.ModifiedAccessConditions{}
	if version == "" {
		cond.IfNoneMatch = new(azcore.ETagAny)
	} else {
		cond.IfMatch = new(azcore.ETag(version))
	}
	out, err := o.box.NewBlockBlobClient(key).UploadBuffer(ctx, data, &blockblob.UploadBufferOptions{
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: cond},
	})
	if err != nil {
		return "", azureError(err)
	}
	return string(*out.ETag), nil
}

func (o *azureBox) remove(ctx context.Context, key, version string) error {
	var options blob.DeleteOptions
	if version != "" {
		options.AccessConditions = &blob.AccessConditions{
			ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: new(azcore.ETag(version))},
		}
	}
	_, err := o.box.NewBlobClient(key).Delete(ctx, &options)
	return azureError(err)
}

func (o *azureBox) list(ctx context.Context, prefix string, each func(Object)) error {
	pages := o.box.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return azureError(err)
		}
		for _, b := range page.Segment.BlobItems {
			each(Object{Key: *b.Name, Size: *b.Properties.ContentLength, Changed: *b.Properties.LastModified, Version: string(*b.Properties.ETag)})
		}
	}
	return nil
}

func (o *azureBox) close() { o.http.CloseIdleConnections() }

// azureError marks what users of a bucket tell apart.
func azureError(err error) error {
	switch {
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case bloberror.HasCode(err, bloberror.ConditionNotMet, bloberror.BlobAlreadyExists):
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}
