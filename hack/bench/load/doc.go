// Command load compares how chains fare in pods that others use as well, at loads up
// to 90% of what all can do:
//
//	ours -------> [dispatcher] --> pod p: a, b  <-- background, another dispatcher
//	                          \--> pod q: a, b
//
// Both pods hold both steps of a chain, behind real sidecars. A step takes time and no
// CPU, ten times as much for b as for a, and has a bounded number of places, whoever
// calls it. The background is 40% of the load, and its dispatcher knows the first pod
// only. Compared are, with the same arrivals and costs:
//
//	local only   b is run in the pod in which a was, however long the wait
//	remote only  before each step the dispatcher chooses the pod anew, by what was
//	             last reported
//	Sidestep     as it is
//	one queue    for each step, and all servers: computed, without any network
//
// With payloads each pod is behind a link of a known rate: a network namespace, and a
// token bucket in each direction. This needs root, ip and tc.
//
// All parts but those links are in this process.
package main
