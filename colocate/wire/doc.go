// Package wire is the protocol between the dispatcher and the sidecar in a pod
// whose steps it has run one after the other (DESIGN 7): what both must agree
// on, and nothing of what either does.
//
//	dispatcher                                                  sidecar
//
//	GET  /.sidestep/handshake  ------------------------------->
//	     <----------------------- 200 Handshake: pod, versions, ports, claims
//
//	POST /   event (ce-*, body)
//	         sidestep-slip:   Slip, signed  ---> Verifier ---> what to run
//	         sidestep-limits: Limits, not signed: they only ever lower
//	     <----------------------- 102 now and then, while it runs
//	     <----------------------- 200 sidestep-outcome: completed; ...
//	                                  the final event, or none
//	     <----------------------- 200 sidestep-outcome: spilled; step=k; ...
//	                                  the event entering step k, unless it is
//	                                  the one that came
//	     <----------------------- 503 sidestep-outcome: busy
//	                                  nothing was done; try another pod
//
// An answer without an Outcome does not come from a sidecar, whatever its status:
// the pod was not reached. An answer that is cut short comes from one that died.
//
// Events travel as CloudEvents in binary mode (structured mode where they
// must, see event.StructuredOnly). Where an Outcome says Entering, the body
// begins with that many bytes of another event: see [AppendEvent].
//
// # Versions
//
// Each header begins with the protocol's version. A sidecar answers in the version of
// the slip; dispatchers speak Version and the one before, and learn from the
// Handshake which to use. Fields of an Outcome and of Limits that are not known are
// passed over; in a Slip they make it invalid, since they may restrict.
//
// The package has no goroutines. A Signer and a Verifier may be used from any.
package wire
