package config

import "encoding/json"

// withoutLogins gives the clusters without their login nodes.
func (b *SlurmBackend) withoutLogins() List[SlurmCluster] {
	var clusters List[SlurmCluster]
	for _, c := range b.Clusters {
		c.SlurmLogin = nil
		clusters = append(clusters, c)
	}
	return clusters
}

// wireType is credentials without further fields.
type wireType struct {
	Type string `json:"type"`
}

// MarshalJSON writes the fields of the type.
func (c AzureCreds) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		wireType
		*AzureClient
	}{wireType{c.Type}, c.Client})
}

// MarshalJSON writes the fields of the type.
func (c GCPCreds) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		wireType
		*GCPAccount
	}{wireType{c.Type}, c.Account})
}

// MarshalJSON writes the fields of the type.
func (c OCICreds) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		wireType
		*OCIClient
		*OCIProfile
	}{wireType{c.Type}, c.Client, c.Default})
}

// MarshalJSON writes a plain context as a string.
func (c KubernetesContext) MarshalJSON() ([]byte, error) {
	if c.Plain {
		return json.Marshal(c.Name)
	}
	return json.Marshal(struct {
		Name      string               `json:"name"`
		ProxyJump *KubernetesProxyJump `json:"proxy_jump"`
	}{c.Name, c.ProxyJump})
}
