// Package livetest tests the controller and the dispatcher against a real API
// server, with real events. It has tests only, and they are skipped unless
// SIDESTEP_CLUSTER is set:
//
//	make test-cluster
//
//	test --> API server <--> controller (manager, in this process)
//	  |          ^                 | admin
//	  |          |                 v
//	  |          +------ watcher, replica <--> membackend
//	  '--> ingress ---------------'  '--> subscribers of the test
//
// The control plane alone is enough for it, hence pods are objects without a
// process: each test's dispatcher plays the part of one.
package livetest
