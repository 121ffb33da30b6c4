// Package reconcile is the controller: it makes true what SidestepChannels ask
// for, and says in their status what is.
//
//	SidestepChannel --> Reconcile
//	                      |-- positions (pure): which groups there are to be
//	                      |-- backend.Admin: EnsureLog, EnsureGroup, DeleteGroup
//	                      |-- service, addresses (pure): how it is reached
//	                      |-- sink: where its dead letters go
//	                      |-- Roll: what every dispatcher knows of it
//	                      |-- move: a step of the log to the backend that it belongs on
//	                      '-- status: written here alone, once or twice
//
//	config-sidestep --> System --> sidestep-state: what is in effect, for everybody
//
// # In which order
//
// A group is named in status.positions before it is made, and its Position becomes
// Active once it is there: from then on dispatchers deliver to it. The
// subscription is ready when all of them do. Removal is the way back: a
// subscription that has left spec.subscribers is drained, then held for a grace
// period, since Knative's controller loses an update now and then and puts it back;
// then its group is deleted. A channel that is deleted takes nothing more, is
// drained once nothing leads to it any more, leaves the tables, and then the
// backend.
//
// # Goroutines
//
// The manager's workers, Roll.Start, and System.Start with a sweeper of payloads.
package reconcile
