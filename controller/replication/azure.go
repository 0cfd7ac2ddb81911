package replication

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
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/benbjohnson/litestream/abs"
)

const (
	azureKey = "LITESTREAM_AZURE_ACCOUNT_KEY"
	azureSAS = "LITESTREAM_AZURE_SAS_TOKEN"
)

// azureObjects is a container of Azure Blob Storage.
type azureObjects struct {
	http *http.Client
	box  *container.Client
}

func connectAzure(t Target, getenv func(string) string) (*remote, error) {
	client := abs.NewReplicaClient()
	client.AccountName, client.Bucket, client.Path = t.Account, t.Bucket, t.Path
	client.AccountKey, client.SASToken, client.Endpoint = getenv(azureKey), getenv(azureSAS), t.query.Get("endpoint")
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the standard HTTP transport was replaced")
	}
	o := &azureObjects{http: &http.Client{Transport: transport.Clone()}}
	api, err := openAzure(client, o.http)
	if err != nil {
		return nil, t.fault("the credentials are not usable", "set "+azureKey+" to a key of the account", err)
	}
	o.box = api.ServiceClient().NewContainerClient(t.Bucket)
	return &remote{objects: o, client: client}, nil
}

// openAzure takes the first credentials there are, in Litestream's order.
func openAzure(c *abs.ReplicaClient, client *http.Client) (*azblob.Client, error) {
	endpoint := cmp.Or(c.Endpoint, "https://"+c.AccountName+".blob.core.windows.net")
	// A lease is renewed often: a request that fails is repeated by the keeper.
	options := &azblob.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: client, Retry: policy.RetryOptions{MaxRetries: 1}}}
	switch {
	case c.SASToken != "":
		return azblob.NewClientWithNoCredential(endpoint+"?"+strings.TrimPrefix(c.SASToken, "?"), options)
	case c.AccountKey != "":
		key, err := azblob.NewSharedKeyCredential(c.AccountName, c.AccountKey)
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

func (o *azureObjects) get(ctx context.Context, key string) ([]byte, string, error) {
	out, err := o.box.NewBlobClient(key).DownloadStream(ctx, nil)
	if err != nil {
		return nil, "", azureError(err)
	}
	data, err := readAll(out.Body)
	return data, string(*out.ETag), err
}

func (o *azureObjects) put(ctx context.Context, key string, data []byte, version string) (string, error) {
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

func (o *azureObjects) remove(ctx context.Context, key, version string) error {
	_, err := o.box.NewBlobClient(key).Delete(ctx, &blob.DeleteOptions{AccessConditions: &blob.AccessConditions{
		ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: new(azcore.ETag(version))},
	}})
	if err = azureError(err); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (o *azureObjects) list(ctx context.Context, prefix string, each func(object)) error {
	pages := o.box.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return azureError(err)
		}
		for _, b := range page.Segment.BlobItems {
			each(object{key: *b.Name, size: *b.Properties.ContentLength, changed: *b.Properties.LastModified})
		}
	}
	return nil
}

func (o *azureObjects) open(ctx context.Context, key string) (io.ReadCloser, error) {
	out, err := o.box.NewBlobClient(key).DownloadStream(ctx, nil)
	if err != nil {
		return nil, azureError(err)
	}
	return out.Body, nil
}

func (o *azureObjects) close() { o.http.CloseIdleConnections() }

// azureError marks what the callers of objects tell apart.
func azureError(err error) error {
	switch {
	case bloberror.HasCode(err, bloberror.BlobNotFound):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case bloberror.HasCode(err, bloberror.ConditionNotMet, bloberror.BlobAlreadyExists):
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return err
}
