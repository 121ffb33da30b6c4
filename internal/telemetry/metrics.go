package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidestep-dev/sidestep/channel"
)

// Metrics observes the engine and ingress. Make it with New; it is a
// channel.Observer.
type Metrics struct {
	hops *Hops

	ingress     *prometheus.CounterVec
	ingressSize prometheus.Histogram
	ingressTook prometheus.Histogram
	dispatch    *prometheus.HistogramVec
	attempts    *prometheus.CounterVec
	endings     *prometheus.CounterVec
	steps       prometheus.Histogram
	settle      prometheus.Histogram
	spills      *prometheus.CounterVec
	repeated    prometheus.Counter
	risk        prometheus.Histogram
}

var _ channel.Observer = (*Metrics)(nil)

// buckets from 100 us to 100 s: a hop within a machine up to a slow step.
var buckets = prometheus.ExponentialBucketsRange(0.0001, 100, 19)

// New registers the metrics with r. hops may be nil.
func New(r prometheus.Registerer, hops *Hops) *Metrics {
	m := &Metrics{
		hops: hops,
		ingress: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidestep_ingress_events_total",
			Help: "Requests at ingress by channel and HTTP status.",
		}, []string{"namespace", "channel", "code"}),
		ingressSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sidestep_ingress_event_bytes",
			Help:    "Size of the bodies accepted at ingress.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 10),
		}),
		ingressTook: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sidestep_ingress_duration_seconds",
			Help:    "Time from a request's header to its answer: until the event was durable.",
			Buckets: buckets,
		}),
		dispatch: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kn_eventing_dispatch_duration_seconds",
			Help:    "Duration of attempts to hand an event to a step, a reply address, a dead letter sink or a channel.",
			Buckets: buckets,
		}, []string{"namespace", "channel", "leg"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidestep_hops_total",
			Help: "Attempts by how the event had come there (stored, short-circuited, colocated) and what was answered.",
		}, []string{"namespace", "channel", "leg", "travel", "code"}),
		endings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidestep_records_total",
			Help: "Records by what became of them.",
		}, []string{"ending"}),
		steps: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sidestep_chain_steps",
			Help:    "Steps run between two durable points.",
			Buckets: []float64{0, 1, 2, 3, 4, 5, 8, 16, 32, 64},
		}),
		settle: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sidestep_settle_duration_seconds",
			Help:    "Time from the receipt of a record to its settlement.",
			Buckets: buckets,
		}),
		spills: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidestep_spills_total",
			Help: "Events given back from the middle of a chain by the channel of the step they were entering, why, and where they went (store, pod).",
		}, []string{"namespace", "channel", "reason", "to"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sidestep_repeated_steps_total",
			Help: "Steps that may have been run more than once, as a process had died or did not answer.",
		}),
		risk: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sidestep_work_at_risk_seconds",
			Help:    "Time from the beginning of a chain to its next durable point: what a crash repeats.",
			Buckets: buckets,
		}),
	}
	r.MustRegister(m.ingress, m.ingressSize, m.ingressTook, m.dispatch, m.attempts, m.endings, m.steps, m.settle,
		m.spills, m.repeated, m.risk)
	return m
}

// Ingress counts a request; channel is "" where none was found.
func (m *Metrics) Ingress(namespace, channel string, status int, bytes int64, took time.Duration) {
	m.ingress.WithLabelValues(namespace, channel, statusLabel(status)).Inc()
	if status < 300 {
		m.ingressSize.Observe(float64(bytes))
		m.ingressTook.Observe(took.Seconds())
	}
}

// statusLabel is bounded: a step can answer any number.
func statusLabel(status int) string {
	switch {
	case status == 0:
		return "none" // no answer
	case status < 100 || status > 599:
		return "other"
	}
	return strconv.Itoa(status)
}

// Hop implements channel.Observer.
func (m *Metrics) Hop(h *channel.Hop) {
	leg := h.Leg.String()
	code := statusLabel(h.Result.Status)
	c := h.Channel
	m.dispatch.WithLabelValues(c.Namespace, c.Name, leg).Observe(h.Took.Seconds())
	m.attempts.WithLabelValues(c.Namespace, c.Name, leg, h.Travel.String(), code).Inc()
	if h.Spilled != channel.NoSpill {
		m.spill(h)
	}
	if m.hops != nil {
		m.hops.hop(h)
	}
}

// spill counts an event that was given back, once it has gone on.
func (m *Metrics) spill(h *channel.Hop) {
	to := "store"
	switch {
	case h.Leg == channel.ToStep:
		to = "pod"
	case h.Result.Err != nil:
		return // it is tried again
	}
	m.spills.WithLabelValues(h.Channel.Namespace, h.Channel.Name, h.Spilled.String(), to).Inc()
}

// End implements channel.Observer.
func (m *Metrics) End(e *channel.End) {
	m.endings.WithLabelValues(e.Ending.String()).Inc()
	m.steps.Observe(float64(e.Steps))
	m.settle.Observe(e.Took.Seconds())
	if e.Again > 0 {
		m.repeated.Add(float64(e.Again))
	}
	if e.Risk > 0 {
		m.risk.Observe(e.Risk.Seconds())
	}
}
