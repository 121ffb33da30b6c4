package egress

import (
	"math/rand/v2"
	"net/http"
	"time"
)

// What Policy leaves open.
const (
	// DefaultDelay is the backoff's base where the policy gives none.
	DefaultDelay = 200 * time.Millisecond
	// MaxDefaultPause caps the pauses that grow from DefaultDelay. A delay
	// that the user gave grows as far as the user said.
	MaxDefaultPause = time.Minute
	// maxPause keeps arithmetic from overflowing: 2^62 ns is 146 years.
	maxPause = 1 << 62
	// jitter is the most that a pause is lengthened by, as a fraction. It
	// only ever lengthens: what the user wrote is the least.
	jitter = 0.1
)

// Pause is the time between attempt n, the first being 1, and the next:
// linear delay*n, exponential delay*2^n (CONTRACT 7; Knative's DeliverySpec),
// with up to 10% of jitter on top so that what failed together does not return
// together. retryAfter is what the response asked for, 0 for nothing; where the
// policy heeds it, the longer of the two counts.
func (p *Policy) Pause(n int, retryAfter time.Duration) time.Duration {
	delay, most := p.Delay, time.Duration(maxPause)
	if delay <= 0 {
		delay, most = DefaultDelay, MaxDefaultPause
	}
	pause := grow(delay, n, p.Backoff)
	pause = min(pause, most)
	if p.RetryAfterMax != nil {
		pause = max(pause, min(retryAfter, *p.RetryAfterMax))
	}
	if extra := int64(float64(pause) * jitter); extra > 0 && pause < maxPause {
		pause += time.Duration(rand.Int64N(extra + 1))
	}
	return pause
}

// grow saturates at maxPause instead of overflowing.
func grow(delay time.Duration, n int, b Backoff) time.Duration {
	n = max(n, 1)
	if b == Linear {
		if delay > maxPause/time.Duration(n) {
			return maxPause
		}
		return delay * time.Duration(n)
	}
	if n >= 62 || delay > maxPause>>n {
		return maxPause
	}
	return delay << n
}

// Retryable tells whether another attempt may turn out better: there was no
// response, or one that says so (CONTRACT 7: >= 500, 404, 408, 409, 429). A 2xx
// whose body was no good is not: the step has run.
func Retryable(r Result) bool {
	switch s := r.Status; s {
	case 0, http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	default:
		return s >= http.StatusInternalServerError
	}
}

// retryAfter reads the header of a 429 or 503: seconds or an HTTP-date
// (RFC 9110, 10.2.3). 0 if it says nothing understandable.
func retryAfter(status int, value string, now time.Time) time.Duration {
	if value == "" || (status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable) {
		return 0
	}
	if seconds, ok := digits(value); ok {
		return seconds
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// digits reads delay-seconds, saturating: a huge number is a long time, not an
// unreadable header.
func digits(s string) (time.Duration, bool) {
	const most = maxPause / time.Second
	var n time.Duration
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+time.Duration(s[i]-'0'), most)
	}
	return n * time.Second, true
}
