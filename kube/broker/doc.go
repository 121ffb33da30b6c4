// Package broker opens, within a cluster, what config-sidestep names: for the
// controller, which decides what is in effect, and for dispatchers, which follow.
//
//	config-sidestep --controller--> State (sidestep-state) --> dispatchers
//	                     |                                        |
//	                     '----> Servers <-------------------------'
//	                               |-- embedded: the store's Service, with its password
//	                               |-- nats, kafka: the servers named there, with Secrets as files
//	                               '-- payloads: the store's, or the URL named there
package broker
