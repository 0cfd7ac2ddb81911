//go:build e2e

package archives

import (
	"archive/tar"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"dstack/test/storages"
)

// tarOf is a tar file with one file.
func tarOf(t *testing.T, name, content string) string {
	t.Helper()
	var b strings.Builder
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// readOnly is a token of Azurite's account that allows to read and list the
// container "bucket".
func readOnly(t *testing.T) string {
	t.Helper()
	key, err := azblob.NewSharedKeyCredential("devstoreaccount1", storages.AzuriteKey)
	if err != nil {
		t.Fatal(err)
	}
	token, err := sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPSandHTTP, ExpiryTime: time.Now().Add(time.Hour).UTC(), ContainerName: "bucket",
		Permissions: (&sas.ContainerPermissions{Read: true, List: true}).String(),
	}.SignWithSharedKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return token.Encode()
}

// readOnlyUser makes moto check who asks, and gives the variables of a user who
// may read and list only.
func readOnlyUser(t *testing.T, st *storages.Storage) []string {
	t.Helper()
	iam := func(form url.Values, out any) {
		t.Helper()
		form.Set("Version", "2010-05-08")
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+st.Proxy.Address+"/", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := xml.NewDecoder(response.Body).Decode(out); err != nil || response.StatusCode != http.StatusOK {
			t.Fatal(response.Status, err)
		}
	}
	const policy = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}]}`
	var made struct {
		ID     string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	iam(url.Values{"Action": {"CreateUser"}, "UserName": {"u"}}, &struct{}{})
	iam(url.Values{"Action": {"PutUserPolicy"}, "UserName": {"u"}, "PolicyName": {"p"}, "PolicyDocument": {policy}}, &struct{}{})
	iam(url.Values{"Action": {"CreateAccessKey"}, "UserName": {"u"}}, &made)
	storages.Send(t, http.MethodPost, "http://"+st.Proxy.Address+"/moto-api/reset-auth", "0")
	return []string{"AWS_ACCESS_KEY_ID=" + made.ID, "AWS_SECRET_ACCESS_KEY=" + made.Secret}
}
