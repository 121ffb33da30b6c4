// Package backendtest is the conformance suite of package backend: what every
// backend must and must not do, as tests that know nothing of the broker
// behind it.
//
//	Run --+-- together: one Harness, properties in parallel, each on logs of its own
//	      |        property -- Connect -- backend A --\
//	      |                 -- Connect -- backend B ---+--> broker
//	      |                 -- Kill(A), Cut(B), Mend(B)
//	      +-- alone: a Harness for each property, one after the other
//	      |        property -- Connect ... Restart
//	      +-- at the end: no goroutine is left
//
// A test of a backend is then
//
//	func TestConformance(t *testing.T) { backendtest.Run(t, newHarness) }
//	func BenchmarkBackend(b *testing.B) { backendtest.Benchmark(b, newHarness) }
//
// The suite waits with deadlines (Facts.Patience), never for a fixed time. That
// something does not happen it proves with a fence where it can: a marker is
// published, and must be what comes next. Only where nothing can serve as a
// fence does it watch for a short while; that may miss a fault but never
// accuses a backend wrongly.
package backendtest
