package api

// Codes of errors in answers (spec: rest-api.md 4). A client that does not
// know a code hides the message from its user, so there are no others.
const (
	CodeError               = "error"
	CodeExists              = "resource_exists"
	CodeNotExists           = "resource_not_exists"
	CodeRepoNotExists       = "repo_does_not_exist"
	CodeBackendNotAvailable = "backend_not_available"
	CodeInvalidCredentials  = "invalid_credentials" //nolint:gosec // a word, no secret
	CodeGateway             = "gateway_error"
)
