package engine

import (
	"fmt"
	"slices"
	"strings"

	"dstack/controller/store"
)

// mostNamed is how many machine types are named for which a cloud said the same.
const mostNamed = 3

// moreRoom is what to do if no cloud has any.
const moreRoom = ". Allow more `regions` and `instance_types`, or set `retry` with the event `no-capacity`"

// triedTexts are the answers of clouds, each once with the machine types that it
// was given for, and what to do if all of them had none.
func triedTexts(list []store.Try) (answers []string, advice string) {
	var whys []string
	types := map[string][]string{}
	for _, t := range list {
		why := strings.TrimSuffix(t.Why, ".")
		if types[why] == nil {
			whys = append(whys, why)
		}
		if !slices.Contains(types[why], t.Type) {
			types[why] = append(types[why], t.Type)
		}
	}
	for _, why := range whys {
		names := types[why]
		text := strings.Join(names[:min(len(names), mostNamed)], ", ")
		if more := len(names) - mostNamed; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		answers = append(answers, text+": "+why)
	}
	if len(list) > 0 && !slices.ContainsFunc(list, func(t store.Try) bool { return !t.Sold }) {
		advice = moreRoom
	}
	return answers, advice
}
