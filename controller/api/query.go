package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"github.com/gin-gonic/gin"

	"dstack/controller/api/openapi"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// handleQuery is the adapter of an endpoint whose input is in the query; what
// it does not know there is ignored. name is a parameter of the path.
func handleQuery[In, Out any](name string, fn func(a *API, g *gin.Context, c call, path string, in In) (Out, error)) endpoint {
	shape := shapeOf[noBody, Out]()
	shape.Query = openapi.QueryOf(reflect.TypeFor[In]())
	return endpoint{shape: shape, run: func(a *API, g *gin.Context, c call) error {
		in, err := fromQuery[In](g.Request.URL.Query())
		if err != nil {
			return err
		}
		out, err := fn(a, g, c, g.Param(name), in)
		if err != nil {
			return err
		}
		return a.answer(g, http.StatusOK, out)
	}}
}

// fromQuery reads the fields of In from a query; the last of several counts.
func fromQuery[In any](values url.Values) (In, error) {
	known := map[string]string{}
	for field := range reflect.TypeFor[In]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if list := values[name]; len(list) > 0 {
			known[name] = list[len(list)-1]
		}
	}
	body, err := json.Marshal(known)
	if err != nil {
		var none In
		return none, fmt.Errorf("encode query: %w", err)
	}
	in, err := api.DecodeRequest[In](body)
	if bad, ok := errors.AsType[config.Errors](err); ok {
		return in, queryFaults(bad)
	}
	return in, err
}

// queryFaults are faults of a query: they say so where others say "body".
type queryFaults config.Errors //nolint:errname // a list of errors, like the one that it is made of

func (f queryFaults) Error() string { return "query: " + config.Errors(f).Error() }

func (f queryFaults) detail() (int, any) {
	details := config.Errors(f).Details()
	for _, d := range details {
		d.Loc[0] = "query"
	}
	return http.StatusUnprocessableEntity, details
}
