package main

import (
	"math"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// bound tells on which side of a number a ratio should be.
type bound string

const (
	atMost  bound = "≤"
	atLeast bound = "≥"
	noBound bound = "" // told for information
)

// goal is a ratio of two contenders, and what it should be.
type goal struct {
	text        string
	measure     measure
	over, under string
	bound       bound
	want        float64
}

// goals are the project's, and ratios that help to read them.
func goals() []goal {
	return []goal{
		{"hop: Always / net/http loop", hopP50, sidestepAlways, netHTTP, atMost, 1.2},
		{"throughput: Always / net/http loop", perSecond, sidestepAlways, netHTTP, atLeast, 0.95},
		{"hop: Never / raw JetStream loop", hopP50, sidestepNever, storeLoop, atMost, 1.3},
		{"throughput: Never / raw JetStream loop", perSecond, sidestepNever, storeLoop, atLeast, 0.9},
		{"hop: in-memory channel / Always", hopP50, inMemory, sidestepAlways, atLeast, 2},
		{"throughput: Always / in-memory channel", perSecond, sidestepAlways, inMemory, atLeast, 3},
		{"ingress: raw publish in process / Sidestep", perSecond, storePublish, sidestepIngress, atMost, 1.25},

		{"hop: Colocated / net/http loop", hopP50, colocated, netHTTP, atMost, 1.05},
		{"throughput: Colocated / net/http loop", perSecond, colocated, netHTTP, atLeast, 0.85},
		{"hop: Colocated / direct chain", hopP50, colocated, direct, atMost, 2.5},
		{"throughput: Colocated / direct chain", perSecond, colocated, direct, atLeast, 0.9},
		{"hop: in-memory channel / Colocated", hopP50, inMemory, colocated, atLeast, 2.5},
		{"throughput: Colocated / in-memory channel", perSecond, colocated, inMemory, atLeast, 3},
		{"hop: Colocated / fasthttp loop", hopP50, colocated, fastHTTP, noBound, 0},
		{"throughput: Colocated / fasthttp loop", perSecond, colocated, fastHTTP, noBound, 0},
		{"hop: Colocated / Always", hopP50, colocated, sidestepAlways, noBound, 0},
		{"throughput: Colocated / Always", perSecond, colocated, sidestepAlways, noBound, 0},
		{"CPU per sequence: Colocated / net/http loop", cpu, colocated, netHTTP, noBound, 0},
		{"CPU per sequence: Colocated / Always", cpu, colocated, sidestepAlways, noBound, 0},

		{"ingress: raw publish over loopback / Sidestep", perSecond, storeRemote, sidestepIngress, noBound, 0},
		{"ingress: HTTP 202 after raw publish / Sidestep", perSecond, storeIngress, sidestepIngress, noBound, 0},
		{"ingress: HTTP 202, nothing stored / Sidestep", perSecond, accept, sidestepIngress, noBound, 0},
		{"ingress: raw publish in process / HTTP 202, nothing stored", perSecond, storePublish, accept, noBound, 0},
		{"hop: Always / fasthttp loop", hopP50, sidestepAlways, fastHTTP, noBound, 0},
		{"throughput: Always / fasthttp loop", perSecond, sidestepAlways, fastHTTP, noBound, 0},
		{"hop: Always / direct chain", hopP50, sidestepAlways, direct, noBound, 0},
		{"throughput: Always / direct chain", perSecond, sidestepAlways, direct, noBound, 0},
		{"CPU per sequence: Always / net/http loop", cpu, sidestepAlways, netHTTP, noBound, 0},
		{"CPU per sequence: Always / fasthttp loop", cpu, sidestepAlways, fastHTTP, noBound, 0},
		{"CPU per sequence: Never / raw JetStream loop", cpu, sidestepNever, storeLoop, noBound, 0},
		{"CPU per sequence: in-memory channel / Always", cpu, inMemory, sidestepAlways, noBound, 0},
		{"CPU per event: Sidestep ingress / HTTP 202 after raw publish", cpu, sidestepIngress, storeIngress, noBound, 0},
		{"hop: Never / Always", hopP50, sidestepNever, sidestepAlways, noBound, 0},
		{"throughput: Always / Never", perSecond, sidestepAlways, sidestepNever, noBound, 0},
	}
}

// verdict is a goal and how it came out.
type verdict struct {
	goal
	ratio stats.Summary
}

// verdicts are those of all goals whose contenders were both measured.
func (r *results) verdicts() []verdict {
	var out []verdict
	for _, g := range goals() {
		if r.has(g.over) && r.has(g.under) {
			ratios := stats.Ratios(r.values[key{g.over, g.measure}], r.values[key{g.under, g.measure}])
			out = append(out, verdict{g, stats.Summarize(ratios)})
		}
	}
	return out
}

// reached tells whether the median of the rounds is within the bound.
func (v verdict) reached() string {
	switch {
	case v.bound == noBound:
		return ""
	case math.IsNaN(v.ratio.Median):
		return "not measured"
	case v.bound == atMost && v.ratio.Median <= v.want, v.bound == atLeast && v.ratio.Median >= v.want:
		return "yes"
	default:
		return "no"
	}
}

func (v verdict) target() string {
	if v.bound == noBound {
		return ""
	}
	return string(v.bound) + " " + stats.Number(v.want, 2)
}
