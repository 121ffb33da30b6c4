// Package swapbackend is a Backend made of several, between which logs move while
// they are used.
//
//	Publish --> Home --ErrSealed--> Next            [ member a ]   [ member b ]
//	Receive <-- Former, Home, Next together              |              |
//	            (of an ordered log the first alone)      '--- Place ----'  one for each log
//
// # A move
//
// Who moves a log from a to b (internal/standalone, or the controller of a
// cluster) takes it through these places, writes each down before the step that follows
// it, and can begin again at any of them:
//
//	Place{Home: a}                   Prepare: the log and its groups are made on b
//	Place{Home: a, Next: b}          members of the groups join b; Joined tells when all have
//	                                 Seal on a: whoever publishes goes on to b, in that moment
//	Place{Home: b, Former: [a]}      what is in a is delivered; Drained tells when all of it is settled
//	Place{Home: b}                   Forget: the log is deleted on a
//
// Nothing is lost in between, as a record is in one log or the other, and both are read; nothing
// is delivered twice, as none is in both. The order of a key is kept, since an
// ordered log is read from the next place only when nothing is left in the one before.
//
// A log that is deleted (DeleteLog) ends its subscriptions, wherever it was on its way to: the
// next log of that name has others.
//
// # Goroutines
//
// For each open subscription of a log in more than one place, one for each of them that
// hands on what it receives; and one that subscribes again where that failed. All end with the
// place, or with the subscription's Close, which awaits them.
package swapbackend
