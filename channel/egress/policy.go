package egress

import (
	"net/url"
	"strings"
	"time"
)

// Backoff is how the pause between attempts grows.
type Backoff uint8

// The policies of Knative's DeliverySpec.
const (
	Exponential Backoff = iota // delay * 2^n; the default
	Linear                     // delay * n
)

// Format is the CloudEvents content mode in which an event is sent.
type Format uint8

// The formats of Knative's DeliverySpec.
const (
	Binary     Format = iota // the default
	Structured               // application/cloudevents+json
)

// Policy is the delivery spec of a subscription, decoded. The zero value is
// one attempt.
type Policy struct {
	// Retry is how many attempts may follow the first.
	Retry int
	// Timeout limits one attempt; 0 means Config.DefaultTimeout (10 min).
	Timeout time.Duration
	Backoff Backoff
	// Delay is the backoff's base; 0 means DefaultDelay.
	Delay time.Duration
	// RetryAfterMax caps a Retry-After that a 429 or 503 carries; nil
	// means that Retry-After is not looked at, as does a pointer to 0.
	RetryAfterMax *time.Duration
	Format        Format
}

// Target is where an event is sent.
type Target struct {
	// URL is absolute, http or https.
	URL string
	// Host is sent as the Host header; "": that of the URL.
	Host string
	// CACerts are PEM certificates trusted beside the system's; "" for none.
	CACerts string
	// Audience of the token that goes with a request, and Identity of who it is
	// for, as Config.Token understands it. "" for a request without one.
	Audience, Identity string
	// Reference: a payload that is not in the log is handed over as a URL to
	// fetch it from, and not by value.
	Reference bool
}

// Display is the URL without its password: for logs, and for what others see.
func (t *Target) Display() string {
	if strings.IndexByte(t.URL, '@') < 0 {
		return t.URL
	}
	u, err := url.Parse(t.URL)
	if err != nil {
		return "a URL that cannot be parsed"
	}
	return u.Redacted()
}
