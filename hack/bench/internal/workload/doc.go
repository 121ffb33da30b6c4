// Package workload is what all contenders have to carry: a 1 KiB CloudEvent in
// binary mode through five steps, each of which answers with a 1 KiB
// CloudEvent of its own.
//
//	generator --step0--> contender --step0--> step 1
//	                               <--step1--
//	                               --step1--> step 2
//	                               <--step2--   ...   step 5
//
// It also holds the net/http client that the hand-written loops share. It
// starts no goroutine.
package workload
