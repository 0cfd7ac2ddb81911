package openapi

import "strings"

// proxied says that the route passes requests on to services.
func (r Route) proxied() bool { return strings.HasPrefix(r.Path, "/proxy/") }

// proxyResponse describes an answer of the proxy's own: a text, or a redirect
// without a body.
func proxyResponse(status string) object {
	if status == "308" {
		return object{"description": proxyAnswers[status]}
	}
	return errorResponse(proxyAnswers[status], "TextError")
}

// proxyAnswers are those of the proxy itself (spec: services-and-gateways.md 5).
var proxyAnswers = map[string]string{ //nolint:gochecknoglobals // a table
	"308": "The root of a service ends with a slash.",
	"400": "The proxy upgrades no connections.",
	"403": "The caller is no member of the project, and the service is for members.",
	"404": "There is no such service or model that runs.",
	"501": "This build can't send requests to services yet: how the service is reached.",
}

// proxyStatuses are those of the answers of a proxy's route other than 200.
func (r Route) proxyStatuses() []string {
	switch {
	case !strings.HasPrefix(r.Path, "/proxy/services/"):
		out := []string{"403"}
		if r.Shape.In != nil {
			out = append(out, "404", "422", "501")
		}
		return out
	case strings.HasSuffix(r.Path, "/*path"):
		return []string{"400", "403", "404", "501"}
	}
	return []string{"308"}
}
