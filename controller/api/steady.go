package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// answersLimit is how many bytes of answers are remembered.
const answersLimit = 8 << 20

// question is all that a steady answer depends on besides the rows.
type question struct {
	path, user, contentType, body string
	version                       clientVersion
}

// reply is an answer of a steady endpoint.
type reply[T any] struct {
	value T
	// raw, if not nil, is the value as JSON already.
	raw []byte
	// live says that the answer changes although the rows do not.
	live bool
	// hold, if not 0, is how long the answer holds at most.
	hold time.Duration
	// still, if not nil, says whether what is no row is as it was.
	still func() bool
}

// steadyAnswer is an answer as it is sent. It holds until a time, if that is
// not zero, and while still says so, if there is one.
type steadyAnswer struct {
	body  []byte
	until time.Time
	still func() bool
}

// remembered gives the answer to a question if it holds.
func (a *API) remembered(revision uint64, q question) ([]byte, bool) {
	known, ok := a.answers.Get(revision, q)
	if !ok || !known.until.IsZero() && !a.deps.Now().Before(known.until) || known.still != nil && !known.still() {
		return nil, false
	}
	return known.body, true
}

// steady is handle for an endpoint whose answer depends on nothing but the
// rows, the caller and the request: it is made once for each revision of the
// rows.
func steady[In, Out any](fn handler[In, Out]) endpoint {
	return steadyReply(func(a *API, ctx context.Context, c call, in In) (reply[Out], error) {
		out, err := fn(a, ctx, c, in)
		return reply[Out]{value: out}, err
	})
}

// steadyReply is steady for an endpoint whose answers are live sometimes.
func steadyReply[In, Out any](fn handler[In, reply[Out]]) endpoint {
	return endpoint{shape: shapeOf[In, Out](), run: func(a *API, g *gin.Context, c call) error {
		data, err := bodyOf(g)
		if err != nil {
			return err
		}
		q := question{g.Request.URL.Path, c.User.ID, g.GetHeader("Content-Type"), string(data), c.version}
		revision := a.deps.Store.Revision()
		if known, ok := a.remembered(revision, q); ok {
			g.Data(http.StatusOK, jsonType, known)
			return nil
		}
		defer a.answers.Turn(g.Request.Context(), revision, q)()
		if known, ok := a.remembered(revision, q); ok {
			g.Data(http.StatusOK, jsonType, known)
			return nil
		}
		in, err := decoded[In](g, data)
		if err != nil {
			return err
		}
		out, err := fn(a, g.Request.Context(), c, in)
		if err != nil {
			return err
		}
		body := out.raw
		if body == nil {
			body, err = patched(c.version, out.value)
		} else {
			body, err = repatched(c.version, body)
		}
		if err != nil {
			return err
		}
		if !out.live {
			known := steadyAnswer{body: body, still: out.still}
			if out.hold > 0 {
				known.until = a.deps.Now().Add(out.hold)
			}
			a.answers.Put(revision, q, known, len(body)+len(q.body)+len(q.path))
		}
		g.Data(http.StatusOK, jsonType, body)
		return nil
	}}
}
