package api

import (
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"

	"dstack/protocol/config/schema"
)

// serveSchemas serves the schemas of configuration files, to everybody: editors
// fetch them.
func serveSchemas(e *gin.Engine) {
	for name, generate := range map[string]func() []byte{
		"configuration": schema.Configuration,
		"profiles":      schema.Profiles,
	} {
		body := sync.OnceValue(generate)
		e.GET("/api/docs/schemas/"+name+".json", func(g *gin.Context) {
			g.Header("Access-Control-Allow-Origin", "*") // editors in browsers
			g.Data(http.StatusOK, "application/schema+json", body())
		})
	}
}
