// Package archtest holds the imports to the layers of the design, section 3.
// It has tests only.
//
//	cmd --> { kube, internal/standalone, internal/store } --> { channel, sequence, claimcheck, colocate }
//	                                               |
//	                                               v
//	                                         channel/backend <-- *backend
//
//	go list -deps --> graph of imports --> rules (rules_test.go) --> what to do
package archtest
