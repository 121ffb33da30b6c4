package manifest

import (
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/claimcheck/stores"
)

// ClaimCheck is the data key claim-check: where payloads are kept that are too
// large for the log.
type ClaimCheck struct {
	// Store is the URL of the store, see package stores; "": the one that the
	// process has by itself.
	Store string
	// Secret has the Store's credentials, on a cluster: its key credentials is what
	// the parameter credentials-file names elsewhere.
	Secret string
	// Threshold is the most bytes of data that travel in a record.
	Threshold int64
	// TTL is how long a payload is kept that nothing refers to any more.
	TTL time.Duration
	// MaxEventBytes is the most bytes of data that an event may have;
	// MaxStructuredBytes bounds an event in structured mode, which is read into memory.
	MaxEventBytes, MaxStructuredBytes int64
	// LinkTTL is how long a receiver of a reference may use it.
	LinkTTL time.Duration
}

// Bounds and defaults of ClaimCheck. A payload must not expire while it comes in.
const (
	defaultClaimTTL        = 7 * 24 * time.Hour
	leastClaimTTL          = time.Hour
	leastLinkTTL           = time.Minute
	defaultStructuredBytes = 8 << 20
)

func defaultClaimCheck() ClaimCheck {
	return ClaimCheck{
		Threshold: channel.DefaultThreshold, TTL: defaultClaimTTL, LinkTTL: channel.DefaultLinkTTL,
		MaxEventBytes: channel.DefaultMaxEventBytes, MaxStructuredBytes: defaultStructuredBytes,
	}
}

func claimCheck(v value, c *ClaimCheck) {
	v.object(fields{
		"store": func(v value) {
			c.Store = v.str()
			if err := stores.Check(c.Store); isString(v.node) && err != nil {
				v.problem("bad URL: %s", strings.TrimPrefix(err.Error(), stores.ErrURL.Error()+": "))
			}
		},
		"secret":             secret(&c.Secret, "the store's parameter credentials-file"),
		"threshold":          func(v value) { c.Threshold = byteCount(v, 1) },
		"ttl":                func(v value) { c.TTL = goDuration(v, leastClaimTTL) },
		"linkTTL":            func(v value) { c.LinkTTL = goDuration(v, leastLinkTTL) },
		"maxEventBytes":      func(v value) { c.MaxEventBytes = byteCount(v, 1) },
		"maxStructuredBytes": func(v value) { c.MaxStructuredBytes = byteCount(v, 1) },
	})
	if c.Secret != "" && !stores.TakesCredentials(c.Store) {
		v.problem("secret goes with a store that takes credentials, and has no credentials-file of its own")
	}
	if c.MaxEventBytes < c.Threshold {
		v.problem("maxEventBytes is %d, less than the threshold of %d bytes", c.MaxEventBytes, c.Threshold)
	}
	// So that what may travel in a record may come in either mode.
	if c.MaxStructuredBytes < c.Threshold {
		v.problem("maxStructuredBytes is %d, less than the threshold of %d bytes", c.MaxStructuredBytes, c.Threshold)
	}
}
