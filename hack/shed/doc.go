// Command shed measures a sidecar that is offered more than it can take: how much
// it still does, how quickly it turns the rest away, and what memory it has then.
//
//	go run ./hack/shed [-places 16] [-service 10ms] [-for 3s] [-rounds 3]
//
//	shed --- chains of one step, --> sidecar --> step, a process that sleeps
//	  |      at a fixed rate                     for the service time
//	  +-- /proc/PID
//
// Chains are offered at multiples of the capacity, places / service time,
// whether or not those before were answered. Generator, sidecar and step share
// the machine's processors.
//
// Goroutines: a worker for each connection, which load awaits; one that waits for
// each child.
package main
