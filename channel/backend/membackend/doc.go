// Package membackend keeps logs in memory. It is the contract of package
// backend in executable form, kept as plain as it can be: one lock, no
// goroutine of its own. Unit tests and simulations run on it, also inside
// testing/synctest bubbles; nothing survives the process.
//
//	Store --+-- log "ns/a" -- records  r1 r2 r3
//	        |                   |
//	        |                   +-- group X: pending {r2, r3}, who holds which
//	        |                   +-- group Y: pending {r3}
//	        +-- log "ns/b" ...
//
//	Backend (one process's connection) -- Subscription (a member) -- Receive, Ack
//
// A Store stands for the broker, a Backend for one process's connection to it.
// Kill and Cut do to a connection what SIGKILL and a broken network do.
package membackend
