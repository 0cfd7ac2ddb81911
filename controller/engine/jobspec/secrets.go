package jobspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"dstack/protocol/api"
	"dstack/protocol/config"
)

// secretsNamespace begins a reference to a secret (spec: configuration.md 2.14).
const secretsNamespace = "secrets."

// SecretNames are the secrets that the env and registry_auth of a job refer
// to, sorted.
func SecretNames(s api.JobSpec) []string {
	seen := map[string]bool{}
	_, _ = interpolated(s, func(name string) (string, bool) {
		if secret, ok := secretReference(name); ok {
			seen[secret] = true
		}
		return "", true
	})
	return slices.Sorted(maps.Keys(seen))
}

// WithSecrets is a job whose env and registry_auth have the values of secrets
// in place of ${{ secrets.NAME }}. The given one stays as it is: what is
// stored and shown keeps the references.
func WithSecrets(s api.JobSpec, values map[string]string) (api.JobSpec, error) {
	missing := map[string]bool{}
	out, err := interpolated(s, func(name string) (string, bool) {
		secret, ok := secretReference(name)
		if !ok && !plainReference(name) {
			return "", false
		}
		value, known := values[secret]
		if !ok || !known {
			missing[name] = true
		}
		return value, true
	})
	if err == nil {
		err = missingVars(missing)
	}
	if err != nil {
		return s, err
	}
	return out, nil
}

// secretReference is the name of the secret that a reference is to.
func secretReference(name string) (string, bool) {
	secret, ok := strings.CutPrefix(name, secretsNamespace)
	return secret, ok && api.ValidSecretName(secret)
}

// plainReference says whether a name has the form of a reference.
func plainReference(name string) bool {
	namespace, rest, ok := strings.Cut(name, ".")
	return ok && api.ValidSecretName(namespace) && api.ValidSecretName(rest)
}

// interpolated replaces all references in the places where secrets count.
func interpolated(s api.JobSpec, lookup func(name string) (string, bool)) (api.JobSpec, error) {
	keepNone := func(string) bool { return false }
	var fault error
	replace := func(where, text string) string {
		value, err := config.Interpolate(text, lookup, keepNone)
		if err != nil && fault == nil {
			fault = fmt.Errorf("%s: %w", where, err)
		}
		return value
	}
	env := make(map[string]string, len(s.Env))
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		env[name] = replace("env "+name, s.Env[name])
	}
	s.Env = env
	if s.RegistryAuth != nil {
		s.RegistryAuth = &config.RegistryAuth{
			Username: replace("registry_auth.username", s.RegistryAuth.Username),
			Password: replace("registry_auth.password", s.RegistryAuth.Password),
		}
	}
	return s, fault
}

// missingVars begins with the words of 0.22.5 and says what to do.
func missingVars(names map[string]bool) error {
	if len(names) == 0 {
		return nil
	}
	var quoted, set []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		quoted = append(quoted, "'"+name+"'")
		if secret, ok := secretReference(name); ok {
			set = append(set, "`dstack secret set "+secret+" VALUE`")
		}
	}
	remedy := "only secrets can be referred to here"
	if len(set) == len(quoted) {
		remedy = "create what is missing with " + strings.Join(set, ", ")
	}
	return fmt.Errorf("Failed to interpolate due to missing vars: [%s]; %s", strings.Join(quoted, ", "), remedy) //nolint:staticcheck // shown to the user
}
