// Package tracing makes a span of each hop of an event, for OpenTelemetry.
//
//	channel.Dispatcher -- Begin --> Tracer --> span, and the event with it as traceparent
//	                   -- Then ---> a step that a sidecar called: its ID follows from the one before
//	                   -- End ----> attributes --> batches --> OTLP
//
// Each hop is the parent of the next, as the event carries its context from step to
// step, in its record from process to process, and in its request to the step: what
// the step traces by itself stands beneath its hop. A sidecar makes no spans. It hands
// the steps the contexts that the dispatcher's spans will have, and its answer says
// how long each took.
//
// Attributes follow OpenTelemetry's conventions for messaging, HTTP and CloudEvents;
// beside them:
//
//	sidestep.travel        how the event had come: stored, short-circuited, colocated
//	sidestep.leg           what the attempt was for: step, reply, dead-letter, spill, ingress
//	sidestep.pod           the pod that called the step, if one did
//	sidestep.spill.reason  why the event had been given back before, if it was
//	sidestep.reference     the data was not sent, but a link to it
//
// # Goroutines
//
// Those of the SDK's batch processor, from Open to Shutdown.
package tracing
