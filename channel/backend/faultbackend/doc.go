// Package faultbackend wraps a backend and has its calls go wrong, as a plan
// says: the nth publish fails, or is stored and not confirmed; an ack is lost;
// a record comes twice. It is how the engine is tested against brokers at
// their worst, and how backendtest is tested for noticing.
//
//	caller --> Backend -- Plan(Call{Publish, n: 7, ...}) = Fault --> inner backend
//	               |         Fail              nothing reaches the inner one; an error
//	               |         LoseConfirmation  it is done; an error all the same
//	               |         Drop              nothing is done; success all the same
//	               |         Duplicate         it is done twice
//	               \-- Calls, Faults           Delay, with any of them, comes first
//
// A plan is deterministic: what happens to a call depends on its operation and
// on how many calls of that operation there were before, not on time. The
// package has no goroutine and no clock of its own, and so also works inside
// testing/synctest bubbles.
package faultbackend
