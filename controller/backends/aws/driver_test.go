package aws

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"dstack/controller/backends"
	"dstack/protocol/config"
)

// TestTagsOfBackend: what AWS would refuse with each machine is refused at once.
func TestTagsOfBackend(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for n := range mostTags + 1 {
		many["k"+strconv.Itoa(n)] = "v"
	}
	for name, c := range map[string]struct {
		tags map[string]string
		says string
	}{
		"none":       {nil, ""},
		"good":       {map[string]string{"team/cost center": "a-1 @b=ç", "empty": ""}, ""},
		"of AWS":     {map[string]string{"AWS:x": "y"}, "AWS:x"},
		"bad key":    {map[string]string{"a,b": "y"}, "a,b"},
		"no key":     {map[string]string{"": "y"}, "1 to 128"},
		"bad value":  {map[string]string{"a": "x;y"}, `the value of "a"`},
		"long value": {map[string]string{"a": strings.Repeat("x", 257)}, "up to 256"},
		"too many":   {many, "at most 25"},
	} {
		err := checkConfig(&config.AWSBackend{Tags: c.tags})
		var invalid *backends.Invalid
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.says != "" && (!errors.As(err, &invalid) || !strings.Contains(invalid.Message, c.says) || strings.Join(invalid.Field, ".") != "tags"):
			t.Errorf("%s: %v", name, err)
		}
	}
}
