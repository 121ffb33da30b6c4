// Package telemetry turns what the engine and ingress report into Prometheus
// metrics, and into a stream of hops for whoever watches.
//
//	channel.Dispatcher -- Hop, End --> Observer --+--> counters, histograms --> /metrics
//	ingress.Handler  --- Observe ---------------->+
//	                                              +--> Hops --> /debug/hops (only while watched)
//
// Labels are bounded by what the table holds: namespace, channel and
// subscription names, never ids, URLs or error texts of events.
package telemetry
