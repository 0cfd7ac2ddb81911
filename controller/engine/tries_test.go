package engine

import (
	"strings"
	"testing"
	"time"

	"dstack/controller/backends"
	"dstack/controller/backends/fake"
	"dstack/controller/store"
)

// TestMostTries: no more offers are asked for than the server allows, though
// there are others.
func TestMostTries(t *testing.T) {
	t.Parallel()
	inCloud(t, fake.Config{}, func(r *cloudRig) {
		r.stop()
		r.tries = 2
		r.start()
		r.cloud.Inject(refusal(backends.NoCapacity))
		f := r.fleet(0, 1, 1)
		time.Sleep(50 * time.Second) // before the fleet clears it away
		expect(t, "calls", r.cloud.Calls("create"), 2)
		if text := deref(r.instances(f)[0].ReasonMessage); !strings.Contains(text, "small, large: dstack region-1: ") || !strings.HasSuffix(text, moreRoom) {
			t.Errorf("the message is %q", text)
		}
		r.cloud.Heal()
		r.clear(f)
	})
}

// TestTriedTexts says each answer once, and advises only who has a choice.
func TestTriedTexts(t *testing.T) {
	t.Parallel()
	none := func(machineType, region string) store.Try {
		return store.Try{Type: machineType, Why: "aws " + region + ": no capacity", Sold: true}
	}
	const here = "aws us: no capacity"
	for name, c := range map[string]struct {
		list   []store.Try
		want   []string
		advice string
	}{
		"nothing":     {},
		"one":         {[]store.Try{none("a", "us")}, []string{"a: " + here}, moreRoom},
		"both kinds":  {[]store.Try{none("a", "us"), none("a", "us")}, []string{"a: " + here}, moreRoom},
		"many":        {[]store.Try{none("a", "us"), none("b", "us"), none("a", "eu"), none("c", "us"), none("d", "us")}, []string{"a, b, c and 1 more: " + here, "a: aws eu: no capacity"}, moreRoom},
		"another one": {[]store.Try{none("a", "us"), {Type: "b", Why: "aws us: no such subnet. Name one."}}, []string{"a: " + here, "b: aws us: no such subnet. Name one"}, ""},
	} {
		answers, advice := triedTexts(c.list)
		expect(t, name, answers, c.want)
		expect(t, name, advice, c.advice)
	}
}
