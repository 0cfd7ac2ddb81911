package api

import "regexp"

// Secret is a value that jobs of a project may refer to by name. Value is nil
// in lists.
type Secret struct {
	ID    string  `json:"id"`
	Name  string  `json:"name"`
	Value *string `json:"value"`
}

// GetSecretRequest asks for a secret with its value.
type GetSecretRequest struct {
	Name string `json:"name"`
}

// CreateOrUpdateSecretRequest sets a secret.
type CreateOrUpdateSecretRequest struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// DeleteSecretsRequest names the secrets to delete.
type DeleteSecretsRequest struct {
	SecretsNames []string `json:"secrets_names"`
}

// MaxSecretValue is how many characters a secret's value may have.
const MaxSecretValue = 5000

var secretName = regexp.MustCompile(`^[A-Za-z0-9-_]{1,200}$`)

// ValidSecretName says whether a secret may have the name.
func ValidSecretName(name string) bool { return secretName.MatchString(name) }
