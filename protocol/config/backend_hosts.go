package config

import (
	"encoding/json"
	"fmt"

	"dstack/protocol/internal/decode"
)

// KubernetesBackend is kubernetes. Nil Contexts means the current one of the
// kubeconfig.
type KubernetesBackend struct {
	Type       string               `json:"type"`
	Contexts   []KubernetesContext  `json:"contexts"`
	ProxyJump  *KubernetesProxyJump `json:"proxy_jump"`
	Namespace  *string              `json:"namespace"`
	Kubeconfig *Kubeconfig          `json:"kubeconfig,omitempty"`
}

// KubernetesContext is a context of the kubeconfig; on the wire it is a plain
// string if the file had one.
type KubernetesContext struct {
	Name      string
	ProxyJump *KubernetesProxyJump
	// Plain says that the context was written as a bare string.
	Plain bool
}

// KubernetesProxyJump is how hosts outside reach the cluster.
type KubernetesProxyJump struct {
	Hostname *string `json:"hostname"`
	Port     *int    `json:"port"`
}

// Kubeconfig is the text of a kubeconfig file.
type Kubeconfig struct {
	Filename string `json:"filename"`
	Data     string `json:"data"`
}

// NebiusBackend is nebius.
type NebiusBackend struct {
	Type     string            `json:"type"`
	Projects []string          `json:"projects"`
	Regions  []string          `json:"regions"`
	Fabrics  []string          `json:"fabrics"`
	Tags     map[string]string `json:"tags"`
	Creds    *NebiusAccount    `json:"creds,omitempty"`
}

// NebiusAccount is a key of a service account.
type NebiusAccount struct {
	Type              string  `json:"type"`
	ServiceAccountID  *string `json:"service_account_id"`
	PublicKeyID       *string `json:"public_key_id"`
	PrivateKeyFile    *string `json:"private_key_file"`
	PrivateKeyContent *string `json:"private_key_content"`
	Filename          *string `json:"filename"`
}

// SlurmBackend is slurm; the name of a cluster is a region.
type SlurmBackend struct {
	Type     string             `json:"type"`
	Clusters List[SlurmCluster] `json:"clusters"`
}

// SlurmCluster is one cluster with its partitions. Login is nil for those who
// may not see credentials.
type SlurmCluster struct {
	Name          string          `json:"name"`
	GPUPartitions []SlurmGPUParts `json:"gpu_partitions"`
	CPUPartitions []string        `json:"cpu_partitions"`
	*SlurmLogin
}

// SlurmGPUParts says which GPU the hosts of partitions have:
// [vendor:]name[:memory].
type SlurmGPUParts struct {
	GPU        string       `json:"gpu"`
	Partitions List[string] `json:"partitions"`
}

// SlurmLogin is the login node of a cluster.
type SlurmLogin struct {
	Hostname   string        `json:"hostname"`
	Port       *int          `json:"port"`
	User       string        `json:"user"`
	PrivateKey SlurmIdentity `json:"private_key"`
}

// SlurmIdentity is a private SSH key.
type SlurmIdentity struct {
	Path    string `json:"path"`
	Content string `json:"content"`
}

func (f backendForm) readKubernetes(o *decode.Object) *KubernetesBackend {
	return &KubernetesBackend{
		Type:       "kubernetes",
		Contexts:   decode.Field(o, "contexts", decode.OptionalList(readKubernetesContext)),
		ProxyJump:  decode.Field(o, "proxy_jump", decode.Optional(readKubernetesJump)),
		Namespace:  optionalText(o, "namespace"),
		Kubeconfig: decode.Required(o, "kubeconfig", f.readKubeconfig),
	}
}

func readKubernetesContext(v decode.Value) KubernetesContext {
	if v.Kind() != decode.Map {
		return KubernetesContext{Name: decode.Text(v), Plain: true}
	}
	o := v.Object()
	defer o.Done()
	return KubernetesContext{
		Name:      decode.Required(o, "name", decode.Text),
		ProxyJump: decode.Field(o, "proxy_jump", decode.Optional(readKubernetesJump)),
	}
}

func readKubernetesJump(v decode.Value) KubernetesProxyJump {
	o := v.Object()
	defer o.Done()
	return KubernetesProxyJump{
		Hostname: optionalText(o, "hostname"),
		Port:     decode.Field(o, "port", decode.Optional(decode.Integer)),
	}
}

func (f backendForm) readKubeconfig(v decode.Value) *Kubeconfig {
	name, data := f.fileOrContent(v, "filename", "data")
	return &Kubeconfig{Filename: name, Data: data}
}

// fileOrContent reads an object of a file name, by default empty, and the
// content of that file.
func (f backendForm) fileOrContent(v decode.Value, fileField, contentField string) (string, string) {
	o := v.Secret().Object()
	defer o.Done()
	name, ok := decode.Try(v, func(decode.Value) string { return decode.Field(o, fileField, decode.Text) })
	if f.files == nil {
		return name, decode.Required(o, contentField, decode.Text)
	}
	content := f.content(o, fileField, &name, optionalText(o, contentField))
	if content == nil && ok {
		o.FailBare("value_error", fmt.Sprintf("`%s` or `%s` is required", fileField, contentField), "")
	}
	if content == nil {
		return name, ""
	}
	return name, *content
}

func (f backendForm) readNebius(o *decode.Object) *NebiusBackend {
	list := decode.OptionalList(decode.Text)
	return &NebiusBackend{
		Type:     "nebius",
		Projects: decode.Field(o, "projects", list),
		Regions:  readRegions(o),
		Fabrics:  decode.Field(o, "fabrics", list),
		Tags:     optionalMap(o, "tags"),
		Creds:    readCreds(o, CredsServiceAccount, f.readNebiusAccount),
	}
}

func (f backendForm) readNebiusAccount(c *decode.Object) *NebiusAccount {
	text := decode.Optional(decode.Text)
	if f.files == nil {
		text = func(v decode.Value) *string { return new(decode.Text(v)) }
	}
	required := func(key string) *string {
		if f.files == nil {
			return decode.Required(c, key, text)
		}
		return decode.Field(c, key, text)
	}
	account := &NebiusAccount{
		Type:              CredsServiceAccount,
		ServiceAccountID:  required("service_account_id"),
		PublicKeyID:       required("public_key_id"),
		PrivateKeyFile:    optionalText(c, "private_key_file"),
		PrivateKeyContent: required("private_key_content"),
		Filename:          optionalText(c, "filename"),
	}
	switch {
	case f.files == nil:
	case filled(account.Filename):
		f.readNebiusFile(c, account)
	default:
		account.PrivateKeyContent = f.content(c, "private_key_file", account.PrivateKeyFile, account.PrivateKeyContent)
		if account.PrivateKeyContent == nil {
			c.FailBare("value_error", "Either `private_key_file` or `private_key_content` must be specified", "")
		}
	}
	return account
}

// readNebiusFile takes the account from the file that Nebius hands out.
func (f backendForm) readNebiusFile(c *decode.Object, account *NebiusAccount) {
	at := c.Child("filename")
	text, ok := decode.Try(at, func(v decode.Value) string { return f.file(v, *account.Filename) })
	if !ok {
		return
	}
	var file struct {
		Subject struct {
			Alg        string `json:"alg"`
			PrivateKey string `json:"private-key"`
			KeyID      string `json:"kid"`
			Issuer     string `json:"iss"`
			Subject    string `json:"sub"`
		} `json:"subject-credentials"`
	}
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		at.FailBare("value_error", "Failed to parse credentials file "+*account.Filename, "it must be JSON")
		return
	}
	s := file.Subject
	if s.Alg != "RS256" || s.PrivateKey == "" || s.KeyID == "" || s.Subject == "" || s.Issuer != s.Subject {
		at.FailBare("value_error", "Failed to parse credentials file "+*account.Filename,
			"it must have subject-credentials with alg RS256, private-key, kid, and equal iss and sub")
		return
	}
	account.ServiceAccountID, account.PublicKeyID, account.PrivateKeyContent = &s.Subject, &s.KeyID, &s.PrivateKey
}

func (f backendForm) readSlurm(o *decode.Object) *SlurmBackend {
	return &SlurmBackend{Type: "slurm", Clusters: decode.Required(o, "clusters", decode.ListOf(f.readSlurmCluster))}
}

func (f backendForm) readSlurmCluster(v decode.Value) SlurmCluster {
	o := v.Object()
	defer o.Done()
	return SlurmCluster{
		Name:          decode.Required(o, "name", decode.Text),
		GPUPartitions: decode.Field(o, "gpu_partitions", decode.OptionalList(readSlurmGPUs)),
		CPUPartitions: decode.Field(o, "cpu_partitions", decode.OptionalList(decode.Text)),
		SlurmLogin: &SlurmLogin{
			Hostname: decode.Required(o, "hostname", decode.Text),
			Port:     decode.Field(o, "port", decode.Optional(decode.Integer)),
			User:     decode.Required(o, "user", decode.Text),
			PrivateKey: decode.Required(o, "private_key", func(v decode.Value) SlurmIdentity {
				path, content := f.fileOrContent(v, "path", "content")
				return SlurmIdentity{Path: path, Content: content}
			}),
		},
	}
}

func readSlurmGPUs(v decode.Value) SlurmGPUParts {
	o := v.Object()
	defer o.Done()
	return SlurmGPUParts{
		GPU:        decode.Required(o, "gpu", decode.Text),
		Partitions: decode.Required(o, "partitions", decode.ListOf(decode.Text)),
	}
}
