package openapi

import _ "embed"

// Page shows the document at /openapi.json. It needs nothing from anywhere
// else.
//
//go:embed page.html
var Page []byte //nolint:gochecknoglobals // a file

// PagePolicy lets the page do what it does and nothing more.
const PagePolicy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'"
