package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// Claims observes the claim check. Make it with NewClaims.
type Claims struct {
	objects  *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	failures *prometheus.CounterVec
	size     prometheus.Histogram
	took     prometheus.Histogram
}

var _ claimcheck.Observer = (*Claims)(nil)

// What became of a payload: the label "what".
const (
	stored  = "stored"
	fetched = "fetched"
	reused  = "reused"
	deleted = "deleted"
	swept   = "swept"
)

// NewClaims registers the metrics with r.
func NewClaims(r prometheus.Registerer) *Claims {
	c := &Claims{
		objects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidestep_claims_total",
			Help: "Payloads by what was done: stored, fetched whole, reused instead of stored again, deleted after use, swept when their time was over.",
		}, []string{"what"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidestep_claim_bytes_total",
			Help: "Bytes of payloads by what was done with them; those fetched include ranges, and what was still in memory.",
		}, []string{"what"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidestep_claim_failures_total",
			Help: "Operations of the claim check that failed, by operation and reason.",
		}, []string{"op", "reason"}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sidestep_claim_size_bytes",
			Help:    "Sizes of the payloads that were stored.",
			Buckets: prometheus.ExponentialBuckets(256<<10, 4, 8), // 256 KiB to 4 GiB
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sidestep_claim_store_duration_seconds",
			Help:    "Time to store a payload, its sender's included.",
			Buckets: buckets,
		}),
	}
	for _, what := range []string{stored, fetched, reused, deleted, swept} {
		c.objects.WithLabelValues(what) // from 0 on, so that an increase is seen
		c.bytes.WithLabelValues(what)
	}
	r.MustRegister(c.objects, c.bytes, c.failures, c.size, c.took)
	return c
}

func (c *Claims) count(what string, size int64) {
	c.objects.WithLabelValues(what).Inc()
	c.bytes.WithLabelValues(what).Add(float64(size))
}

// Stored implements claimcheck.Observer.
func (c *Claims) Stored(size int64, took time.Duration) {
	c.count(stored, size)
	c.size.Observe(float64(size))
	c.took.Observe(took.Seconds())
}

// Fetched implements claimcheck.Observer.
func (c *Claims) Fetched(n int64, whole bool) {
	c.bytes.WithLabelValues(fetched).Add(float64(n))
	if whole {
		c.objects.WithLabelValues(fetched).Inc()
	}
}

// Reused implements claimcheck.Observer.
func (c *Claims) Reused(size int64) { c.count(reused, size) }

// Deleted implements claimcheck.Observer.
func (c *Claims) Deleted(size int64) { c.count(deleted, size) }

// Swept implements claimcheck.Observer.
func (c *Claims) Swept(size int64) { c.count(swept, size) }

// Failed implements claimcheck.Observer.
func (c *Claims) Failed(op claimcheck.Op, err error) {
	c.failures.WithLabelValues(string(op), reason(err)).Inc()
}

// reason is one of few words, whatever the error says.
func reason(err error) string {
	for _, r := range []struct {
		err  error
		word string
	}{
		{claimcheck.ErrFull, "full"},
		{claimcheck.ErrUnavailable, "unavailable"},
		{claimcheck.ErrNotFound, "not-found"},
		{claimcheck.ErrCorrupt, "corrupt"},
		{claimcheck.ErrTooLarge, "too-large"},
		{claimcheck.ErrLength, "cut"},
		{context.Canceled, "cancelled"},
		{context.DeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return "other"
}
