package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// every is one thing that goes wrong at one certain moment.
type every struct {
	beforeCommit, afterCommit int
	lose, kill, late          int
}

func (x every) String() string {
	switch {
	case x.beforeCommit > 0:
		return fmt.Sprintf("crash before commit %d", x.beforeCommit)
	case x.afterCommit > 0:
		return fmt.Sprintf("crash after commit %d", x.afterCommit)
	case x.lose > 0:
		return fmt.Sprintf("answer %d lost", x.lose)
	case x.kill > 0:
		return fmt.Sprintf("killed between call %d and its answer", x.kill)
	case x.late > 0:
		return fmt.Sprintf("killed at call %d, which arrives late", x.late)
	}
	return "nothing goes wrong"
}

// quietLife is a short story in which only x goes wrong.
func quietLife(t *testing.T, seed uint64, b *base, x every, keep bool) cluster {
	t.Helper()
	w := newCloudWorld(t, rand.New(rand.NewPCG(seed, 44)), b, 0, nil)
	defer func() { w.closeClouds() }()
	w.budget, w.keep = 0, keep
	w.crashes.beforeNum, w.crashes.afterNum = x.beforeCommit, x.afterCommit
	w.cloud.loseNum, w.cloud.killNum, w.cloud.lateNum = x.lose, x.kill, x.late
	c := cluster{simCloud: w.cloud, each: func(*world) {}}
	c.story(3)
	return c
}

// TestCloudEveryMoment crashes the server before and after every commit, loses
// every answer of the cloud, and kills the server at every call to it: each
// time one thing only, in the same story.
func TestCloudEveryMoment(t *testing.T) {
	b := openBase(t, "")
	// A short run takes some of the moments of one story.
	lives, stride := uint64(max(*simSeeds/500, 1)), max(2000/max(*simSeeds, 1), 1)|1
	for seed := uint64(1); seed <= lives; seed++ {
		plain := quietLife(t, seed, b, every{}, false)
		if plain.failed() {
			quietLife(t, seed, b, every{}, true).report(t, seed)
			return
		}
		var all []every
		for n := 1; n <= b.crashes.commits; n++ {
			all = append(all, every{beforeCommit: n}, every{afterCommit: n})
		}
		for n := 1; n <= plain.calls; n++ {
			all = append(all, every{lose: n}, every{kill: n}, every{late: n})
		}
		t.Logf("seed %d: %d moments", seed, len(all))
		for n, x := range all {
			if n%stride != 0 {
				continue
			}
			if quietLife(t, seed, b, x, false).failed() {
				t.Log(x)
				quietLife(t, seed, b, x, true).report(t, seed)
				return
			}
		}
	}
}
