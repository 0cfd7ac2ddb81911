package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"dstack/protocol/internal/decode"
)

var (
	durationText  = regexp.MustCompile(`^(\d+) *([smhdw])$`)
	durationUnits = map[string]int{"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
)

const durationForms = "seconds or a number with s, m, h, d or w, such as 90m"

// maxDuration keeps sums of durations far from overflow: 1000 years.
const maxDuration = 1000 * 366 * 86400

// ParseDuration gives the seconds of "3600", "60m", "2 h" and so on
// (spec: configuration.md 2.6).
func ParseDuration(s string) (int, error) {
	if isSeconds(s) {
		seconds, _ := decode.ParseInt(s)
		return boundedDuration(seconds)
	}
	m := durationText.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%q is no duration: must be %s", s, durationForms)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n > maxDuration {
		return 0, fmt.Errorf("duration %s is too long", s)
	}
	return boundedDuration(n * durationUnits[m[2]])
}

// isSeconds says whether a text is a plain number; unlike integers elsewhere it
// has no fraction.
func isSeconds(s string) bool {
	_, ok := decode.ParseInt(s)
	return ok && !strings.Contains(s, ".")
}

func boundedDuration(seconds int) (int, error) {
	if seconds > maxDuration || seconds < -maxDuration {
		return 0, fmt.Errorf("duration of %d seconds is too long", seconds)
	}
	return seconds, nil
}

// readDuration reads a plain duration in seconds; booleans are 0 and 1.
func readDuration(v decode.Value) int {
	n := v.Node()
	var seconds int
	var err error
	switch n.Kind {
	case decode.String:
		if !isSeconds(n.Text) && !durationText.MatchString(n.Text) {
			v.FailValue("must be a duration", "Cannot parse the duration "+n.Text, durationForms)
			return 0
		}
		seconds, err = ParseDuration(n.Text)
	case decode.Float:
		if n.Float > maxDuration || n.Float < -maxDuration || n.Float != n.Float {
			v.Fail("value_error", "must be shorter", durationForms)
			return 0
		}
		seconds = int(n.Float)
	case decode.Int, decode.Bool:
		seconds, err = boundedDuration(decode.Integer(v))
	default:
		v.FailValue("must be a duration", "Cannot parse the duration "+n.Text, durationForms)
	}
	if err != nil {
		v.FailBare("value_error", err.Error(), "")
	}
	return seconds
}

// isOff says whether a value switches a duration off: off, "off", false.
func isOff(n *decode.Node) bool {
	return n.Kind == decode.Bool && !n.Bool || n.Kind == decode.String && n.Text == "off"
}

// isDefault says whether a value asks for the default: null, on.
func isDefault(n *decode.Node) bool {
	return n.Kind == decode.Null || n.Kind == decode.Bool && n.Bool
}

// readOffable reads max_duration and stop_duration.
func readOffable(v decode.Value) *OffableDuration {
	switch {
	case isDefault(v.Node()):
		return nil
	case isOff(v.Node()):
		return &OffableDuration{Off: true}
	}
	seconds, ok := decode.Try(v, readDuration)
	if ok && seconds < 0 {
		v.FailValue("must not be negative", "Duration cannot be negative", durationForms+", or off")
	}
	return &OffableDuration{Seconds: seconds}
}

// readIdle reads idle_duration; off is -1.
func readIdle(v decode.Value) *int {
	off := -1
	switch {
	case isDefault(v.Node()):
		return nil
	case isOff(v.Node()):
		return &off
	}
	seconds := readDuration(v)
	return &seconds
}
