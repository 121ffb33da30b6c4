// Package replica is a dispatcher process whose table comes from elsewhere: the
// engine with its servers, their start and their end.
//
//	events (HTTP)  --> ingress --+
//	events (HTTPS) --> ingress --+--> channel.Dispatcher --> backend
//	                                        ^
//	                                        | Apply: whoever holds the table
//	admin: /healthz /readyz /metrics /debug/hops, and what is added
//
// # The end
//
// Told to stop, a replica is unready at once and serves on for Linger: whoever
// sends to it learns of that no sooner. Then it takes no more events, finishes
// what is in flight up to Drain, and gives the rest back.
//
// # Goroutines
//
// Serve starts and awaits one for each server.
package replica
