// Package sidecar runs chains of steps in the pod that it is in (DESIGN 7).
//
//	dispatcher                     Sidecar                              steps
//
//	POST event, slip, limits --> Verifier: signed, for this pod, not expired,
//	                             |         ports that are allowed
//	                             v
//	 <-- 503, busy ------------- a place at the first step? memory?
//	                             |
//	                             |   +---------------------------------+
//	                             v   v                                 |
//	                             event entering step k --egress.Client--> 127.0.0.1:port
//	                             |   ^       kept until                |
//	 <-- 102 every 10 s          |   |       step k has answered       |
//	                             |   +-- complete answer <-------------+
//	                             |       (memory, or a file beyond 256 KiB)
//	                             v
//	 <-- 200, outcome, event --- completed: the last answer, or none
//	                             spilled: the event entering k, and why
//
// It has no broker, no secret and no state: what a step's answer means is decided
// by package egress, as in the dispatcher, and all trouble is given back to it.
// The one thing that outlives a process is files in the folder for claims: those
// with names of ours are deleted when the next process begins.
//
// # Payloads
//
// Data up to Config.Inline is in memory, what is larger in a file of the folder
// for claims, which belongs to its chain and goes with it. A step that the slip says
// may have it by reference is given the file's URL as dataref, and may answer
// with the URL of a file that it wrote there: that file then belongs to the chain
// and gets another name. What a client or another step says in a dataref is passed
// on untouched.
//
// # Goroutines
//
// A Server has one for each connection (fasthttp's, which ends with it), and one
// that looks after those on which a chain runs (watch.run); Shutdown awaits both. The
// client of the steps has one, which Close awaits. Keys.Watch runs in its
// caller's.
package sidecar
