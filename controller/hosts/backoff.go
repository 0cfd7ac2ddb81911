package hosts

import (
	"time"

	"errors"

	"dstack/protocol/hostapi"
	"dstack/sshlink"
)

// delay is how long to wait before the next try, after err and n failures in
// a row before it. Only a port that refuses is tried again in fractions of a
// second (a machine that boots); OpenSSH punishes repeated failed logins.
func delay(err error, n int) time.Duration {
	var link *sshlink.Error
	var problem *hostapi.Problem
	switch {
	case errors.As(err, &link) && link.Kind == sshlink.Refused:
		if n < 120 {
			return double(50*time.Millisecond, n, 800*time.Millisecond)
		}
		return 5 * time.Second
	case errors.As(err, &link) && link.Kind == sshlink.AuthFailed:
		return double(time.Second, n, 8*time.Second)
	case errors.As(err, &link) && (link.Kind == sshlink.HostKeyChanged || link.Kind == sshlink.BadKey),
		errors.As(err, &problem) && problem.Permanent, errors.Is(err, ErrNoPayload):
		return double(2*time.Second, n, 30*time.Second)
	case errors.As(err, &link), errors.As(err, &problem):
		return double(time.Second, n, 5*time.Second)
	}
	return double(50*time.Millisecond, n, 5*time.Second)
}

func double(d time.Duration, n int, most time.Duration) time.Duration {
	for ; n > 0 && d < most; n-- {
		d *= 2
	}
	return min(d, most)
}
