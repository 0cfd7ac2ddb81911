package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"dstack/controller/api/openapi"
	"dstack/protocol/api"
	"dstack/protocol/config"
)

// maxBody bounds a request body; nothing but uploads comes near it.
const maxBody = 16 << 20

// maxDiscarded is how much of a larger body is read before the connection is
// cut.
const maxDiscarded = 64 << 20

const jsonType = "application/json"

// nothing is the answer of an endpoint that returns nothing: null.
type nothing = *struct{}

// noBody is the input of an endpoint without one.
type noBody struct{}

// handler is an endpoint: from a checked call and its input to an answer.
type handler[In, Out any] func(a *API, ctx context.Context, c call, in In) (Out, error)

// endpoint answers a request; shape tells others what it takes and gives.
type endpoint struct {
	run   func(a *API, g *gin.Context, c call) error
	shape openapi.Shape
}

// shapeOf is the shape of an endpoint from JSON to JSON.
func shapeOf[In, Out any]() openapi.Shape {
	shape := openapi.Shape{In: reflect.TypeFor[In](), Out: reflect.TypeFor[Out]()}
	if shape.In == reflect.TypeFor[noBody]() {
		shape.In = nil
	} else {
		shape.Optional = api.BodyOptional(shape.In)
	}
	if shape.Out == reflect.TypeFor[nothing]() {
		shape.Out = nil
	}
	return shape
}

// handle is the one adapter: decode, call, encode.
func handle[In, Out any](fn handler[In, Out]) endpoint {
	return endpoint{shape: shapeOf[In, Out](), run: func(a *API, g *gin.Context, c call) error {
		in, err := input[In](g)
		if err != nil {
			return err
		}
		out, err := fn(a, g.Request.Context(), c, in)
		if err != nil {
			return err
		}
		body, err := patched(c.version, out)
		if err != nil {
			return err
		}
		g.Data(http.StatusOK, jsonType, body)
		return nil
	}}
}

// answers says of an endpoint what its answer may be.
func (e endpoint) answers(forms ...reflect.Type) endpoint {
	e.shape.Forms = forms
	return e
}

// lines is an endpoint that streams answers, one JSON value a line.
func lines[In, Out any](run func(a *API, g *gin.Context, c call) error) endpoint {
	shape := shapeOf[In, Out]()
	shape.Type = "application/x-ndjson"
	return endpoint{run: run, shape: shape}
}

// upload is an endpoint that takes a file in a form.
func upload[Out any](run func(a *API, g *gin.Context, c call) error, query ...openapi.Parameter) endpoint {
	shape := shapeOf[noBody, Out]()
	shape.Form, shape.Query = uploadField, query
	return endpoint{run: run, shape: shape}
}

// input reads the body. Without one, a request whose every field has a
// default gets them all (spec: rest-api.md 1, "Request body").
func input[In any](g *gin.Context) (In, error) {
	data, err := bodyOf(g)
	if err != nil {
		var none In
		return none, err
	}
	return decoded[In](g, data)
}

// bodyOf reads the body whole.
func bodyOf(g *gin.Context) ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(g.Writer, g.Request.Body, maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		// A client hears the answer only after it has sent what it wants to.
		_, _ = io.CopyN(io.Discard, g.Request.Body, maxDiscarded)
		return nil, refuse("The request body is too large: at most %d MB are allowed", maxBody>>20)
	}
	if err != nil {
		return nil, refuse("The request body could not be read: %v", err)
	}
	return data, nil
}

func decoded[In any](g *gin.Context, data []byte) (In, error) {
	var none In
	if _, bodyless := any(none).(noBody); bodyless {
		return none, nil
	}
	data = bytes.TrimSpace(data)
	if kind, _, err := mime.ParseMediaType(g.GetHeader("Content-Type")); len(data) > 0 && (err != nil || !isJSON(kind)) {
		return none, config.Errors{{
			Type: "model_attributes_type", Message: "Input should be a valid dictionary: send it with Content-Type: application/json",
		}}
	}
	in, err := api.DecodeRequest[In](data)
	if err != nil {
		return none, fmt.Errorf("decode request: %w", err)
	}
	return in, nil
}

func isJSON(kind string) bool {
	return kind == jsonType || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
}

// answer writes out as JSON with every field present.
func (a *API) answer(g *gin.Context, status int, out any) error {
	body, err := json.Marshal(out)
	if err != nil {
		return &Error{Status: http.StatusInternalServerError, Msg: "Internal Server Error", Err: err}
	}
	g.Data(status, jsonType, body)
	return nil
}

// fail writes err. What is not meant for the caller goes to the log only.
func (a *API) fail(g *gin.Context, err error) {
	if bad, ok := errors.AsType[config.Errors](err); ok {
		a.refuse(g, http.StatusUnprocessableEntity, errorBody{Detail: bad.Details()})
		return
	}
	if plain, ok := errors.AsType[detailed](err); ok {
		status, detail := plain.detail()
		a.refuse(g, status, errorBody{Detail: detail})
		return
	}
	e := asError(err)
	if e.Status == http.StatusInternalServerError {
		if errors.Is(err, context.Canceled) && g.Request.Context().Err() != nil {
			g.Abort()
			return
		}
		a.log(g).Error().Err(err).Msg("request failed")
		g.Abort()
		g.Data(e.Status, "text/plain; charset=utf-8", []byte("Internal Server Error"))
		return
	}
	if e.Err != nil {
		a.log(g).Warn().Err(e.Err).Str("answer", e.Msg).Msg("request refused")
	}
	if e.Status == http.StatusUnauthorized {
		g.Header("WWW-Authenticate", "Bearer")
	}
	a.refuse(g, e.Status, e.body())
}

func (a *API) refuse(g *gin.Context, status int, body any) {
	g.Abort()
	if err := a.answer(g, status, body); err != nil {
		a.log(g).Error().Err(err).Msg("error body could not be written")
	}
}

func (a *API) log(g *gin.Context) *zerolog.Logger {
	l := a.deps.Log.With().Str("method", g.Request.Method).Str("path", g.Request.URL.Path).Logger()
	return &l
}
