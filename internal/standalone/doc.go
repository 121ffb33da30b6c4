// Package standalone runs a whole channel in one process, from YAML files: what
// the controller, the API server and the dispatcher do on a cluster.
//
//	files -- manifest.Load --> Set -- Table --> lifecycle --+--> backend: logs, groups
//	  ^                                            ^        +--> Dispatcher.Apply
//	  | fsnotify                                   |
//	  +-- watcher (edits apply while it runs) -----+ state.json: UIDs, the last table,
//	                                               | what drains
//	                                               +--> LocalPods, routing: Replica.SetPods
//
// The engine, its servers and the order of their end are those of internal/replica, the
// backends are opened by internal/broker and payload stores by internal/claims: a
// dispatcher of a cluster has the same.
//
// # Removal
//
// What was removed from the files drains first: a flow from its beginning to its
// end, each channel once nothing leads to it any more and its groups have settled
// all, or when dispatch.drainOnDelete is over. Its position then goes at once.
//
// # Goroutines
//
// Run starts and awaits those of the replica, and: the lifecycle that removes what
// has drained, brokers that move logs, the sweeper of payloads, and the watcher of the
// files.
package standalone
