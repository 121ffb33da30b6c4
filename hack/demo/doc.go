// Command demo shows events going through the samples of this repository: it
// builds what is needed, runs it, posts pictures, and draws each one's way.
//
//	           go build                    start on free ports
//	source ---------------> binaries --+--------------------> steps
//	                                   |                        ^ |
//	config/samples/*.yaml --rewrite----+--> dispatcher ---------+ | files
//	                        addresses       ^   |                 v
//	config/samples/pictures --post----------+   | /debug/hops   pictures/
//	                                            v
//	                                         journal --> timeline
//
//	go run ./hack/demo                   two acts, and it ends
//	go run ./hack/demo --stay            the same, and then stays up
//	go run ./hack/demo --data DIR        keep the log and the pictures in DIR
//	go run ./hack/demo --plain           no colour, nothing that moves, ASCII
//
// Without --data the pictures stay in a temporary folder, which is named at the
// end, and all else is removed. It needs no network, no broker and no
// configuration. The exit status is 0 if every event was seen to arrive.
//
// Goroutines: one for each child (started by startChild, ends with the child,
// awaited by child.stop), with those of os/exec that read what it prints; one
// that reads the stream of hops (watchHops, awaited by its stop function); and
// one that redraws the line of a task that is under way (task, awaited by
// task.end).
package main
