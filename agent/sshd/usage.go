package sshd

import (
	"sync"
	"time"
)

// shortest is how old a connection must be to count as use of the job, as in
// 0.22.5.
const shortest = 10 * time.Second

// usage follows who is logged in, to tell for how long nobody is.
type usage struct {
	mu    sync.Mutex
	since map[int]time.Time // of those who are logged in
	next  int
	last  time.Time // when one that counts ended, at first the start
}

func newUsage(start time.Time) *usage { return &usage{since: map[int]time.Time{}, last: start} }

// connected notes a login; the function that it returns notes its end.
func (u *usage) connected(now time.Time) (ended func(now time.Time)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	id := u.next
	u.next++
	u.since[id] = now
	return func(now time.Time) {
		u.mu.Lock()
		defer u.mu.Unlock()
		if now.Sub(u.since[id]) >= shortest {
			u.last = now
		}
		delete(u.since, id)
	}
}

// open is how many are logged in.
func (u *usage) open() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.since)
}

// idle is for how long nobody has been logged in.
func (u *usage) idle(now time.Time) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, since := range u.since {
		if now.Sub(since) >= shortest {
			return 0
		}
	}
	return max(now.Sub(u.last), 0)
}

// settled is when the last of those who are logged in will have been for
// long.
func (u *usage) settled(now time.Time, long time.Duration) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	var last time.Duration
	for _, since := range u.since {
		last = max(last, since.Add(long).Sub(now))
	}
	return last
}
