package config

import (
	"fmt"
	"regexp"

	"dstack/protocol/internal/decode"
)

// windsurfVersion is VERSION@COMMIT.
var windsurfVersion = regexp.MustCompile(`^.+@[a-f0-9]+$`)

// readDevEnvironment reads `type: dev-environment` (spec: configuration.md 6.3).
func readDevEnvironment(v decode.Value) DevEnvironment {
	o := v.Object()
	o.Has("type")
	d, ok := decode.Try(v, func(decode.Value) DevEnvironment {
		return DevEnvironment{
			Type:               TypeDevEnvironment,
			IDE:                decode.Field(o, "ide", decode.Optional(decode.Literal(IDEVSCode, IDECursor, IDEWindsurf, IDEZed))),
			Version:            decode.Field(o, "version", decode.Optional(decode.Text)),
			Init:               decode.Field(o, "init", decode.ListOf(decode.Text)),
			InactivityDuration: decode.Field(o, "inactivity_duration", readInactivity),
			Ports:              decode.Field(o, "ports", decode.ListOf(readPort)),
			RunBase:            readRunBase(o),
			ProfileParams:      readProfileParams(o),
		}
	})
	o.Done()
	if ok {
		checkDevEnvironment(o, d)
	}
	return d
}

func checkDevEnvironment(o *decode.Object, d DevEnvironment) {
	checkImageSources(o, d.RunBase)
	if d.Entrypoint != nil {
		o.Child("entrypoint").FailBare("value_error", "entrypoint is not supported for dev-environment", "remove it")
	}
	if d.Dstack && d.InactivityDuration != nil {
		o.FailField("inactivity_duration", "value_error", "`dstack` is not supported together with `inactivity_duration`", "")
	}
	switch {
	case d.Version == nil:
	case d.IDE == nil:
		o.FailField("version", "value_error", "`version` requires `ide` to be set", "")
	case *d.IDE == IDEWindsurf && !windsurfVersion.MatchString(*d.Version):
		o.FailField("version", "value_error", fmt.Sprintf("Invalid Windsurf version format: `%s`. Expected format: `version@commit` (e.g., `1.106.0@8951cd3ad688e789573d7f51750d67ae4a0bea7d`)", *d.Version), "")
	}
}

// readInactivity reads inactivity_duration; off is nil.
func readInactivity(v decode.Value) *int {
	n := v.Node()
	if isDefault(n) || isOff(n) {
		return nil
	}
	seconds, ok := decode.Try(v, readDuration)
	if ok && seconds < 0 {
		v.FailValue("must not be negative", "Duration cannot be negative", durationForms+", or off")
	}
	return &seconds
}
