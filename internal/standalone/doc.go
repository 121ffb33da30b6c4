// Package standalone runs a whole channel in one process, from YAML files: what
// the controller, the API server and the dispatcher do on a cluster.
//
//	files -- manifest.Load --> Set -- Table --> lifecycle --+--> backend: logs, groups
//	  ^                                            ^        +--> Dispatcher.Apply
//	  | fsnotify                                   |
//	  +-- watcher (edits apply while it runs) -----+ state.json: UIDs, the last table,
//	                                               | what drains
//	                                               +--> LocalPods, routing: colocate.Pods
//
// # Removal
//
// What was removed from the files drains first: a flow from its beginning to its
// end, each channel once nothing leads to it any more and its groups have settled
// all, or when dispatch.drainOnDelete is over. Its position then goes at once.
//
// # Goroutines
//
// Run starts and awaits: the ingress server, the admin server, the lifecycle
// that removes what has drained, and the watcher of the files.
package standalone
