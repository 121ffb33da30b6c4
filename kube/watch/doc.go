// Package watch makes what the API server knows into what a dispatcher works
// from.
//
//	SidestepChannels ---+                                +--> Dispatcher.Apply
//	ConfigMaps          +--> informers --> Watcher --> Table
//	(config-features) --+                    |           +--> rollcall.Roll
//	                                         |           +--> Places: where the logs are
//	                                         +--> Features, for ingress
//
// Table is a pure function: the controller uses the same one to tell a user
// what in a subscription cannot be used. A reply to one of our channels is
// published in process where the channel would admit it anyhow.
//
// # Goroutines
//
// Watcher.Run and the informers that it starts, which it awaits. While the API
// server is away the last table stays.
package watch
