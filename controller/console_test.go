package controller

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

func TestLogFormats(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 25, 16, 42, 8, 123e6, time.Local)
	stamp := at.UTC().Format("2006-01-02T15:04:05.000Z")
	for format, want := range map[string]string{
		FormatRich: "[16:42:08] INFO     The admin token is x\n" +
			"           WARNING  odd id=7 why=\"two words\"\n",
		FormatStandard: "INFO 2026-11-25T16:42:08.123 dstack.server The admin token is x\n" +
			"WARNING 2026-11-25T16:42:08.123 dstack.server odd id=7 why=\"two words\"\n",
		FormatJSON: `{"level":"INFO","timestamp":"` + stamp + `","logger":"dstack.server","message":"The admin token is x"}` + "\n" +
			`{"level":"WARNING","id":7,"why":"two words","timestamp":"` + stamp + `","logger":"dstack.server","message":"odd"}` + "\n",
	} {
		var out bytes.Buffer
		log := newLogger(&out, format, zerolog.InfoLevel, func() time.Time { return at })
		log.Debug().Msg("not shown")
		log.Info().Msg("The admin token is x")
		log.Warn().Int("id", 7).Str("why", "two words").Msg("odd")
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

// TestLongLinesStayWhole keeps a line that scripts search for in one piece.
func TestLongLinesStayWhole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := newLogger(&out, FormatRich, zerolog.InfoLevel, time.Now)
	log.Info().Msg(strings.Repeat("long ", 100))
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
}
