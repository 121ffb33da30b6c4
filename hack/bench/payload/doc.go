// Command payload compares how large payloads travel:
//
//	generator --POST--> relay:    a file ----------------> step    what any relay through a disk must cost
//	          --POST--> Sidestep: a store (file, S3) ----> step    by value
//	          --POST--> Sidestep: a store --a URL--------> step 1 --the URL--> step 2 ... by reference
//
// The generator and the steps are this process; the contender and the S3 server
// are processes of their own. Each contender carries payloads of all sizes once in each round,
// in a shuffled order. Ratios are taken within a round.
//
// By value the time is from the beginning of the POST until the step has read
// all of the payload. By reference it is that of a hop: from just before a step writes its answer,
// which refers to the payload, until the next step's handler is entered.
//
// With -colocate it compares what goes from step to step within a pod:
//
//	step 1 --its answer--> relay: a file ------> step 2    what any relay through a file must cost
//	       --its answer--> sidecar: a file ----> step 2    by value
//	       --its answer--> sidecar: a file --its path--> step 2 --the path--> step 3 ...
package main
