package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSimulatorsReproduce runs seeds one after the other on the same databases,
// as the simulators do, and each alone on new ones, as who looks for a fault
// does: the same must happen.
func TestSimulatorsReproduce(t *testing.T) {
	cloud := func(c cluster) (lines []string) {
		for _, w := range c.worlds {
			lines = append(lines, w.lines...)
		}
		return lines
	}
	for name, run := range map[string]func(t *testing.T, seed uint64, bases []*base) []string{
		"hosts": func(t *testing.T, seed uint64, bases []*base) []string {
			t.Helper()
			return simulate(t, seed, bases[0], faults{}, true, false).lines
		},
		"cloud": func(t *testing.T, seed uint64, bases []*base) []string {
			t.Helper()
			return cloud(simulateCloud(t, seed, bases[:servers(seed)], how{keep: true}))
		},
		"restored": func(t *testing.T, seed uint64, bases []*base) []string {
			t.Helper()
			return cloud(simulateRestored(t, seed, bases))
		},
		"every moment": func(t *testing.T, seed uint64, bases []*base) []string {
			t.Helper()
			n := int(seed)
			return cloud(quietLife(t, 1, bases[0], []every{{kill: n}, {late: n}, {afterCommit: n}}[n%3], true))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bases := restorable(t)
			for seed := uint64(1); seed <= 6; seed++ {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					after, alone := run(t, seed, bases), run(t, seed, restorable(t))
					if !slices.Equal(after, alone) {
						t.Errorf("alone (-) and after others (+) it differs:\n%s", cmp.Diff(alone, after))
					}
				})
			}
		})
	}
}
