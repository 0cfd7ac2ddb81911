package replication

import (
	"context"
	"log/slog"

	"github.com/rs/zerolog"

	"dstack/controller/objects"
)

// bridge carries Litestream's log into ours: its errors as warnings, for the
// server goes on; the rest only for debugging.
type bridge struct {
	log   zerolog.Logger
	attrs []slog.Attr
}

// Enabled says whether a record is wanted.
func (b *bridge) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError && b.log.GetLevel() <= zerolog.WarnLevel ||
		level >= slog.LevelInfo && b.log.GetLevel() <= zerolog.DebugLevel
}

// Handle writes a record.
func (b *bridge) Handle(_ context.Context, r slog.Record) error {
	fields := map[string]any{"litestream": r.Message}
	add := func(a slog.Attr) bool {
		fields[a.Key] = objects.Discreet(a.Value.String())
		return true
	}
	for _, a := range b.attrs {
		add(a)
	}
	r.Attrs(add)
	level := zerolog.DebugLevel
	if r.Level >= slog.LevelError {
		level = zerolog.WarnLevel
	}
	b.log.WithLevel(level).Fields(fields).Msg("Litestream reports")
	return nil
}

// WithAttrs keeps attributes for later records.
func (b *bridge) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &bridge{log: b.log, attrs: append(b.attrs[:len(b.attrs):len(b.attrs)], attrs...)}
}

// WithGroup is ignored: names of attributes are clear without.
func (b *bridge) WithGroup(string) slog.Handler { return b }
