package jobspec

import (
	"regexp"
	"slices"
	"strconv"
)

// Addresses are the internal IPs of the members of each group of a run: nodes
// of a task, replicas of a service. "" is one that has no place yet.
type Addresses [][]string

// mention is how a command speaks of another job (spec: configuration.md 2.14).
var mention = regexp.MustCompile(`\$\{\{\s*groups\[(\d+)\]\.(?:nodes|replicas)\[(\d+)\]\.IP_ADDRESS\s*\}\}`)

// MentionsAddresses says whether commands speak of other jobs.
func MentionsAddresses(commands []string) bool {
	return slices.ContainsFunc(commands, mention.MatchString)
}

// Known says whether all addresses that the commands mention are known.
func (a Addresses) Known(commands []string) bool {
	for _, c := range commands {
		for _, m := range mention.FindAllStringSubmatch(c, -1) {
			if a.of(m) == "" {
				return false
			}
		}
	}
	return true
}

// Fill writes the addresses into commands.
func (a Addresses) Fill(commands []string) []string {
	if !MentionsAddresses(commands) {
		return commands
	}
	out := make([]string, len(commands))
	for i, c := range commands {
		out[i] = mention.ReplaceAllStringFunc(c, func(text string) string {
			return a.of(mention.FindStringSubmatch(text))
		})
	}
	return out
}

func (a Addresses) of(m []string) string {
	group, errGroup := strconv.Atoi(m[1])
	member, errMember := strconv.Atoi(m[2])
	if errGroup != nil || errMember != nil || group >= len(a) || member >= len(a[group]) {
		return ""
	}
	return a[group][member]
}
