// Package store is a JetStream server as a process of its own: what keeps the
// logs on a cluster that has no broker.
//
//	dispatchers --(4222, password)--> Server <--(6222, routes)--> its peers
//	probes -------(8222)------------>   |
//	                                    v
//	                              Config.Dir, synced at each write
//
// It is clustered from the start, with one server as with three: the files of a
// server that stood alone cannot join a cluster.
//
// Goroutines: the server's; Run awaits its end.
package store
