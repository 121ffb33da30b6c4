// Package serve is a dispatcher process on a cluster.
//
//	API server --> cache --> watch.Watcher --> table --> replica.Replica
//	                 |                                     ^        ^
//	                 |-- config-sidestep --> broker -------+        |
//	                 |-- Secret --> certificate ---> TLS -----------|
//	                 '-- config-features, EventPolicies --> gate ---+
//
// The gate is Knative's own code (eventing's pkg/auth) behind ingress: it knows
// whose token it is and what the policies say.
//
// # Goroutines
//
// Run starts and awaits the cache with its informers, the Watcher, and the
// replica's servers.
package serve
