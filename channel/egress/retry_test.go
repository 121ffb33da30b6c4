package egress

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
)

func TestPause(t *testing.T) {
	t.Parallel()
	const s = time.Second
	limit := func(d time.Duration) *time.Duration { return &d }
	tests := []struct {
		name       string
		policy     Policy
		n          int
		retryAfter time.Duration
		want       time.Duration
	}{
		{"linear 1", Policy{Backoff: Linear, Delay: s}, 1, 0, s},
		{"linear 3", Policy{Backoff: Linear, Delay: s}, 3, 0, 3 * s},
		{"exponential 1", Policy{Delay: s}, 1, 0, 2 * s},
		{"exponential 3", Policy{Delay: s}, 3, 0, 8 * s},
		{"none given, 1", Policy{}, 1, 0, 2 * DefaultDelay},
		{"none given, 4", Policy{}, 4, 0, 16 * DefaultDelay},
		{"none given, capped", Policy{}, 40, 0, MaxDefaultPause},
		{"linear without delay, capped", Policy{Backoff: Linear}, 1 << 40, 0, MaxDefaultPause},
		{"delay of the user, not capped", Policy{Delay: time.Minute}, 10, 0, 1024 * time.Minute},
		{"before the first counts as the first", Policy{Backoff: Linear, Delay: s}, 0, 0, s},
		{"no overflow, exponential", Policy{Delay: s}, math.MaxInt, 0, maxPause},
		{"no overflow, linear", Policy{Backoff: Linear, Delay: math.MaxInt64}, 2, 0, maxPause},
		{"Retry-After is not looked at", Policy{Backoff: Linear, Delay: s}, 1, time.Hour, s},
		{"Retry-After PT0S is not looked at", Policy{Backoff: Linear, Delay: s, RetryAfterMax: limit(0)}, 1, time.Hour, s},
		{"Retry-After", Policy{Backoff: Linear, Delay: s, RetryAfterMax: limit(time.Hour)}, 1, time.Minute, time.Minute},
		{"Retry-After capped", Policy{Backoff: Linear, Delay: s, RetryAfterMax: limit(5 * s)}, 1, time.Minute, 5 * s},
		{"Retry-After below the backoff", Policy{Backoff: Linear, Delay: time.Minute, RetryAfterMax: limit(time.Hour)}, 1, s, time.Minute},
		{"cap below the backoff", Policy{Backoff: Linear, Delay: time.Minute, RetryAfterMax: limit(s)}, 1, time.Hour, time.Minute},
		{"no Retry-After", Policy{Backoff: Linear, Delay: s, RetryAfterMax: limit(time.Hour)}, 1, 0, s},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for range 100 {
				got := tt.policy.Pause(tt.n, tt.retryAfter)
				if most := float64(tt.want) * (1 + jitter); got < tt.want || float64(got) > most+1 {
					t.Fatalf("got %v, want %v and at most a tenth more", got, tt.want)
				}
			}
		})
	}
}

func TestWhatFailedTogetherDoesNotReturnTogether(t *testing.T) {
	t.Parallel()
	seen := make(map[time.Duration]bool)
	for range 100 {
		seen[(&Policy{}).Pause(3, 0)] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d different pauses of 100", len(seen))
	}
}

func TestRetryAfterSaturates(t *testing.T) {
	t.Parallel()
	if got := retryAfter(503, strings.Repeat("9", 100), time.Now()); got < 100*365*24*time.Hour {
		t.Errorf("got %v: a huge number is a long time", got)
	}
}

func TestDeadLetterSaysWhy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		result     Result
		code, data string
	}{
		{"status and body", Result{Status: 400, Body: []byte("no")}, "400", "bm8="},
		{"status alone", Result{Status: 503}, "503", ""},
		{"network error", Result{}, "500", ""},
		{"unusable reply", Result{Status: 200, Err: ErrReply}, "200", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := sample()
			letter := DeadLetter(e, "http://x/y", tt.result)
			for name, want := range map[string]string{errorDest: "http://x/y", errorCode: tt.code, errorData: tt.data, "foo": "a b"} {
				if got := letter.Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			if len(e.Attributes) != 1 || letter.ID != e.ID || string(letter.Data) != string(e.Data) {
				t.Errorf("original %+v, letter %+v", e, letter)
			}
		})
	}
}

func TestDeadLetterOfADeadLetterSaysTheLastReason(t *testing.T) {
	t.Parallel()
	letter := DeadLetter(DeadLetter(sample(), "http://first", Result{Status: 400}), "http://second", Result{Status: 500})
	if got := letter.Get(errorDest) + " " + letter.Get(errorCode); got != "http://second 500" {
		t.Errorf("got %s", got)
	}
	r := event.ToRecord(letter)
	if _, err := event.FromRecord(&r); err != nil {
		t.Errorf("not readable from the log: %v", err)
	}
}

func TestLongFailingBodyDoesNotPanic(t *testing.T) {
	t.Parallel()
	for _, n := range []int{767, 768, 769, 1023, MaxErrorBody, 1 << 20} {
		body := []byte(strings.Repeat("€", n/3+1)[:n])
		data := DeadLetter(sample(), "http://x", Result{Status: 500, Body: body}).Get(errorData)
		if len(data) > 1024 {
			t.Errorf("%d bytes: %d characters, want at most 1024", n, len(data))
		}
		got, err := base64.StdEncoding.DecodeString(data)
		if err != nil || string(got) != string(body[:min(n, 768)]) {
			t.Errorf("%d bytes: decodes to %d bytes, error %v", n, len(got), err)
		}
	}
}
