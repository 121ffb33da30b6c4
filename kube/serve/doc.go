// Package serve is a dispatcher process on a cluster.
//
//	API server --> cache --> watch.Watcher --> table, places --> replica.Replica
//	                 |                                        ^    ^    ^    ^
//	                 |-- sidestep-state --> stocks: backends -'    |    |    |
//	                 |                      and payload stores ----'    |    |
//	                 |-- Services, Pods, ... --> pods.Watcher: map -----'    |
//	                 |-- Secret --> certificate ---> TLS --------------------|
//	                 '-- config-features, EventPolicies --> gate ------------'
//
// The gate is Knative's own code (eventing's pkg/auth) behind ingress: it knows
// whose token it is and what the policies say. Tokens that were verified are remembered
// until they expire.
//
// # Goroutines
//
// Run starts and awaits the cache with its informers, the two Watchers, and the replica with
// its servers; with that what follows the state, what keeps Secrets as files, and what
// looks for another key for slips.
package serve
