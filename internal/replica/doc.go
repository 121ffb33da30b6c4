// Package replica is a dispatcher process whose table comes from elsewhere: the
// engine with its servers, their start and their end. A standalone process is one
// that files feed, a dispatcher of a cluster one that the API server's objects do.
//
//	events (HTTP)  --> ingress --+                          +--> backend
//	events (HTTPS) --> ingress --+--> channel.Dispatcher ---+--> claims, served at links
//	                                    ^          |        +--> pods: chains within them
//	                                    |          '--> egress
//	            Dispatcher.Apply, SetPods: whoever holds the table and the map
//
//	admin: /healthz /readyz /metrics /debug/hops, and what is added
//
// # The beginning
//
// New takes the addresses, Open makes the engine, Serve runs it: the admin server
// first, then Life.Begin, then the servers for events.
//
// # The end
//
// Told to stop, a replica is unready at once and serves on for Linger: whoever
// sends to it learns of that no sooner. Then it takes no more events, finishes
// what is in flight up to Drain, and gives the rest back. Only then what Life runs is
// told to stop, and the admin server.
//
// # Goroutines
//
// Serve starts and awaits one for each server, and for each of Life.Run.
package replica
