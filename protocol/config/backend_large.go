package config

import (
	"regexp"

	"dstack/protocol/internal/decode"
)

// AWSBackend is aws. Nil DefaultVPCs and PublicIPs mean true.
type AWSBackend struct {
	Type                      string            `json:"type"`
	Regions                   []string          `json:"regions"`
	VPCName                   *string           `json:"vpc_name"`
	VPCIDs                    map[string]string `json:"vpc_ids"`
	DefaultVPCs               *bool             `json:"default_vpcs"`
	PublicIPs                 *bool             `json:"public_ips"`
	IAMInstanceProfile        *string           `json:"iam_instance_profile"`
	Tags                      map[string]string `json:"tags"`
	OSImages                  *AWSImages        `json:"os_images"`
	ExperimentalInstanceTypes []string          `json:"experimental_instance_types"`
	Creds                     *AWSCreds         `json:"creds,omitempty"`
}

// AWSImages replace the standard images of hosts.
type AWSImages struct {
	CPU    *AWSImage `json:"cpu"`
	Nvidia *AWSImage `json:"nvidia"`
}

// AWSImage is the image named Name of an account (12 digits) or of "self".
type AWSImage struct {
	Name  string `json:"name"`
	Owner string `json:"owner"`
	User  string `json:"user"`
}

// Types of credentials.
const (
	CredsDefault        = "default"
	CredsAccessKey      = "access_key"
	CredsClient         = "client"
	CredsServiceAccount = "service_account"
)

// AWSCreds are a key pair or the default credentials of the server's host.
type AWSCreds struct {
	Type      string `json:"type"`
	AccessKey string `json:"access_key,omitempty"`
	SecretKey string `json:"secret_key,omitempty"`
}

// AzureBackend is azure. A nil PublicIPs means true.
type AzureBackend struct {
	Type              string            `json:"type"`
	TenantID          string            `json:"tenant_id"`
	SubscriptionID    string            `json:"subscription_id"`
	ResourceGroup     *string           `json:"resource_group"`
	Regions           []string          `json:"regions"`
	VPCIDs            map[string]string `json:"vpc_ids"`
	SubnetIDs         map[string]string `json:"subnet_ids"`
	PublicIPs         *bool             `json:"public_ips"`
	VMManagedIdentity *string           `json:"vm_managed_identity"`
	Tags              map[string]string `json:"tags"`
	Creds             *AzureCreds       `json:"creds,omitempty"`
}

// AzureCreds are a client or the default credentials of the server's host.
type AzureCreds struct {
	Type   string
	Client *AzureClient
}

// AzureClient is an application with a secret; a nil TenantID is that of the
// backend.
type AzureClient struct {
	ClientID     string  `json:"client_id"`
	ClientSecret string  `json:"client_secret"`
	TenantID     *string `json:"tenant_id"`
}

// GCPBackend is gcp. Nil TPU means false, nil PublicIPs and NATCheck true.
type GCPBackend struct {
	Type             string            `json:"type"`
	ProjectID        string            `json:"project_id"`
	Regions          []string          `json:"regions"`
	TPU              *bool             `json:"tpu"`
	VPCName          *string           `json:"vpc_name"`
	Subnetworks      map[string]string `json:"subnetworks"`
	ExtraVPCs        []string          `json:"extra_vpcs"`
	RoCEVPCs         []string          `json:"roce_vpcs"`
	VPCProjectID     *string           `json:"vpc_project_id"`
	PublicIPs        *bool             `json:"public_ips"`
	NATCheck         *bool             `json:"nat_check"`
	VMServiceAccount *string           `json:"vm_service_account"`
	Tags             map[string]string `json:"tags"`
	PreviewFeatures  []string          `json:"preview_features"`
	Creds            *GCPCreds         `json:"creds,omitempty"`
}

// GCPCreds are a service account or the default credentials of the server's
// host.
type GCPCreds struct {
	Type    string
	Account *GCPAccount
}

// GCPAccount is a key of a service account: Data is its JSON.
type GCPAccount struct {
	Filename *string `json:"filename"`
	Data     string  `json:"data"`
}

// OCIBackend is oci.
type OCIBackend struct {
	Type                      string    `json:"type"`
	Regions                   []string  `json:"regions"`
	CompartmentID             *string   `json:"compartment_id"`
	ExperimentalInstanceTypes []string  `json:"experimental_instance_types"`
	Creds                     *OCICreds `json:"creds,omitempty"`
}

// OCICreds are a client or a profile of a file on the server's host.
type OCICreds struct {
	Type    string
	Client  *OCIClient
	Default *OCIProfile
}

// OCIClient is an API key of a user: exactly one of KeyFile and KeyContent.
type OCIClient struct {
	User        string  `json:"user"`
	Tenancy     string  `json:"tenancy"`
	KeyFile     *string `json:"key_file"`
	KeyContent  *string `json:"key_content"`
	PassPhrase  *string `json:"pass_phrase"`
	Fingerprint string  `json:"fingerprint"`
	Region      string  `json:"region"`
}

// OCIProfile names a profile of an OCI configuration file.
type OCIProfile struct {
	File    string `json:"file"`
	Profile string `json:"profile"`
}

// secret reads credentials of several types; fields that are not of the type
// are unknown.
func secret[T any](read func(typ string, c *decode.Object) T, types ...string) decode.Reader[*T] {
	return func(v decode.Value) *T {
		typ, c := decode.Variant(v.Secret(), "type", types...)
		if typ == "" {
			return nil
		}
		defer c.Done()
		return new(read(typ, c))
	}
}

func readAWS(o *decode.Object) *AWSBackend {
	return &AWSBackend{
		Type:                      "aws",
		Regions:                   readRegions(o),
		VPCName:                   optionalText(o, "vpc_name"),
		VPCIDs:                    optionalMap(o, "vpc_ids"),
		DefaultVPCs:               optionalBool(o, "default_vpcs"),
		PublicIPs:                 optionalBool(o, "public_ips"),
		IAMInstanceProfile:        optionalText(o, "iam_instance_profile"),
		Tags:                      optionalMap(o, "tags"),
		OSImages:                  decode.Field(o, "os_images", decode.Optional(readAWSImages)),
		ExperimentalInstanceTypes: decode.Field(o, "experimental_instance_types", decode.OptionalList(decode.Text)),
		Creds: decode.Required(o, "creds", secret(func(typ string, c *decode.Object) AWSCreds {
			creds := AWSCreds{Type: typ}
			if typ == CredsAccessKey {
				creds.AccessKey = decode.Required(c, "access_key", decode.Text)
				creds.SecretKey = decode.Required(c, "secret_key", decode.Text)
			}
			return creds
		}, CredsAccessKey, CredsDefault)),
	}
}

func readAWSImages(v decode.Value) AWSImages {
	o := v.Object()
	defer o.Done()
	image := decode.Optional(readAWSImage)
	return AWSImages{CPU: decode.Field(o, "cpu", image), Nvidia: decode.Field(o, "nvidia", image)}
}

var awsOwner = regexp.MustCompile(`^(\d{12}|self)$`)

func readAWSImage(v decode.Value) AWSImage {
	o := v.Object()
	defer o.Done()
	return AWSImage{
		Name:  decode.Required(o, "name", decode.Text),
		Owner: decode.FieldOr(o, "owner", "self", decode.Matching(awsOwner)),
		User:  decode.Required(o, "user", decode.Text),
	}
}

func readAzure(o *decode.Object) *AzureBackend {
	return &AzureBackend{
		Type:              "azure",
		TenantID:          decode.Required(o, "tenant_id", decode.Text),
		SubscriptionID:    decode.Required(o, "subscription_id", decode.Text),
		ResourceGroup:     optionalText(o, "resource_group"),
		Regions:           readRegions(o),
		VPCIDs:            optionalMap(o, "vpc_ids"),
		SubnetIDs:         optionalMap(o, "subnet_ids"),
		PublicIPs:         optionalBool(o, "public_ips"),
		VMManagedIdentity: optionalText(o, "vm_managed_identity"),
		Tags:              optionalMap(o, "tags"),
		Creds: decode.Required(o, "creds", secret(func(typ string, c *decode.Object) AzureCreds {
			creds := AzureCreds{Type: typ}
			if typ == CredsClient {
				creds.Client = &AzureClient{
					ClientID:     decode.Required(c, "client_id", decode.Text),
					ClientSecret: decode.Required(c, "client_secret", decode.Text),
					TenantID:     optionalText(c, "tenant_id"),
				}
			}
			return creds
		}, CredsClient, CredsDefault)),
	}
}

func (f backendForm) readGCP(o *decode.Object) *GCPBackend {
	one := func(read decode.Reader[string]) decode.Reader[[]string] {
		return decode.AtMost(1, decode.OptionalList(read))
	}
	return &GCPBackend{
		Type:             "gcp",
		ProjectID:        decode.Required(o, "project_id", decode.Text),
		Regions:          readRegions(o),
		TPU:              optionalBool(o, "tpu"),
		VPCName:          optionalText(o, "vpc_name"),
		Subnetworks:      optionalMap(o, "subnetworks"),
		ExtraVPCs:        decode.Field(o, "extra_vpcs", decode.OptionalList(decode.Text)),
		RoCEVPCs:         decode.Field(o, "roce_vpcs", one(decode.Text)),
		VPCProjectID:     optionalText(o, "vpc_project_id"),
		PublicIPs:        optionalBool(o, "public_ips"),
		NATCheck:         optionalBool(o, "nat_check"),
		VMServiceAccount: optionalText(o, "vm_service_account"),
		Tags:             optionalMap(o, "tags"),
		PreviewFeatures:  decode.Field(o, "preview_features", one(decode.Literal("g4"))),
		Creds: decode.Required(o, "creds", secret(func(typ string, c *decode.Object) GCPCreds {
			creds := GCPCreds{Type: typ}
			if typ == CredsServiceAccount {
				creds.Account = f.readGCPAccount(c)
			}
			return creds
		}, CredsServiceAccount, CredsDefault)),
	}
}

func (f backendForm) readGCPAccount(c *decode.Object) *GCPAccount {
	if f.files == nil {
		return &GCPAccount{
			Filename: decode.FieldOr(c, "filename", new(""), decode.Optional(decode.Text)),
			Data:     decode.Required(c, "data", decode.Text),
		}
	}
	name := decode.Required(c, "filename", decode.Text)
	account := &GCPAccount{Filename: &name}
	if data := f.content(c, "filename", &name, optionalText(c, "data")); data != nil {
		account.Data = *data
	}
	return account
}

func readOCI(o *decode.Object) *OCIBackend {
	return &OCIBackend{
		Type:                      "oci",
		Regions:                   readRegions(o),
		CompartmentID:             optionalText(o, "compartment_id"),
		ExperimentalInstanceTypes: decode.Field(o, "experimental_instance_types", decode.OptionalList(decode.Text)),
		Creds: decode.Required(o, "creds", secret(func(typ string, c *decode.Object) OCICreds {
			if typ == CredsClient {
				return OCICreds{Type: typ, Client: readOCIClient(c)}
			}
			return OCICreds{Type: typ, Default: &OCIProfile{
				File:    decode.FieldOr(c, "file", "~/.oci/config", decode.Text),
				Profile: decode.FieldOr(c, "profile", "DEFAULT", decode.Text),
			}}
		}, CredsClient, CredsDefault)),
	}
}

func readOCIClient(c *decode.Object) *OCIClient {
	client := &OCIClient{
		User:        decode.Required(c, "user", decode.Text),
		Tenancy:     decode.Required(c, "tenancy", decode.Text),
		KeyFile:     optionalText(c, "key_file"),
		KeyContent:  optionalText(c, "key_content"),
		PassPhrase:  optionalText(c, "pass_phrase"),
		Fingerprint: decode.Required(c, "fingerprint", decode.Text),
		Region:      decode.Required(c, "region", decode.Text),
	}
	switch {
	case filled(client.KeyFile) && filled(client.KeyContent):
		c.FailBare("value_error", "key_file and key_content are mutually exclusive", "")
	case !filled(client.KeyFile) && !filled(client.KeyContent):
		c.FailBare("value_error", "key_file or key_content is required", "")
	}
	return client
}
