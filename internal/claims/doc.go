// Package claims keeps the stores open that payloads are in, and changes them while
// they are used.
//
//	config-sidestep --Use-----> [new, former, ...] -- Ledger: what outlives the process
//	                                 |                     |
//	                                 v                     '--Follow--> other processes
//	                        claimcheck.Checkroom
//	                                 |
//	                  Run: sweep, and forget what is empty --> [new]
//
// One process decides: a standalone one, or a cluster's controller. The dispatchers of
// a cluster follow.
//
// # Goroutines
//
// None: Run and its like are the caller's.
package claims
