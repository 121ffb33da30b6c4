package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/store"
)

// The contenders' names.
const (
	netHTTP         = "nethttp"
	fastHTTP        = "fasthttp"
	direct          = "direct"
	inMemory        = "inmemory"
	storeLoop       = "store-loop"
	sidestepAlways  = "sidestep-always"
	sidestepNever   = "sidestep-never"
	colocated       = "sidestep-colocated"
	accept          = "accept"
	storePublish    = "store-publish"
	storeRemote     = "store-remote"
	storeIngress    = "store-ingress"
	sidestepIngress = "sidestep-ingress"
)

// measure names one number of a sample.
type measure string

const (
	hopP50    measure = "hop p50"       // microseconds
	hopP99    measure = "hop p99"       // microseconds
	perSecond measure = "per second"    // sequences, or events at ingress
	answerP50 measure = "answer p50"    // microseconds, at ingress
	answerP99 measure = "answer p99"    // microseconds, at ingress
	cpu       measure = "cpu"           // microseconds of the contender's processes, per sequence or event
	cpuAll    measure = "cpu and steps" // the same and that of the steps
	peakRSS   measure = "peak rss"      // MiB
	allocs    measure = "allocations"   // per sequence or event
)

// sample is what one contender showed in one round. What is not known of it
// is absent.
type sample map[measure]float64

// contender is one way to do it.
type contender struct {
	name  string
	title string
	// ingress tells that only what happens up to the 202 is measured.
	ingress bool
	// binary is what it needs built, "" for this program; sidecar: that, too.
	binary  binary
	sidecar bool
	// apart: it is measured only where it is asked for.
	apart bool
	// start runs it in front of the steps; dir is an empty folder of its own.
	start func(ctx context.Context, b *bench, steps, dir string) (*instance, error)
	// measure replaces how it is measured, for one that is no HTTP server.
	measure func(ctx context.Context, b *bench, dir string) (sample, error)
}

// contenders are all, in the order of the report.
func contenders() []contender {
	return []contender{
		{name: netHTTP, title: "net/http loop", start: roleBefore(roleNetHTTP)},
		{name: fastHTTP, title: "fasthttp loop", start: roleBefore(roleFastHTTP)},
		{name: direct, title: "direct chain", start: startDirect},
		{name: inMemory, title: "in-memory channel", binary: binaryInMemory, start: startInMemory},
		{name: storeLoop, title: "raw JetStream loop", start: roleBefore(roleStoreLoop)},
		{name: sidestepAlways, title: "Sidestep Always", binary: binaryDispatcher, start: startSequence("Always")},
		{name: sidestepNever, title: "Sidestep Never", binary: binaryDispatcher, start: startSequence("Never")},

		{name: colocated, title: "Sidestep Colocated", apart: true, binary: binaryDispatcher, sidecar: true, start: startColocated},

		{name: accept, title: "HTTP 202, nothing stored", ingress: true, start: roleBefore(roleAccept)},
		{name: storePublish, title: "raw publish, in process", ingress: true, measure: measurePublish},
		{name: storeRemote, title: "raw publish, over loopback", ingress: true, measure: measureRemote},
		{name: storeIngress, title: "HTTP 202 after raw publish", ingress: true, start: roleBefore(roleStoreIngress)},
		{name: sidestepIngress, title: "Sidestep ingress", ingress: true, binary: binaryDispatcher, start: startHanging},
	}
}

// storeTransport is how the contenders that embed a raw store reach it.
const storeTransport = store.InProcess

func names(all []contender) []string {
	out := make([]string, 0, len(all))
	for _, c := range all {
		out = append(out, c.name)
	}
	return out
}

// choose picks contenders by a list of names separated by commas, in their own
// order; "" are all.
func choose(list string) ([]contender, error) {
	all := contenders()
	if list == "" {
		return slices.DeleteFunc(all, func(c contender) bool { return c.apart }), nil
	}
	wanted := strings.Split(list, ",")
	for _, name := range wanted {
		if !slices.Contains(names(all), name) {
			return nil, fmt.Errorf("no contender is called %q: want some of %s", name, strings.Join(names(all), ","))
		}
	}
	return slices.DeleteFunc(all, func(c contender) bool { return !slices.Contains(wanted, c.name) }), nil
}
