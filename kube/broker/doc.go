// Package broker opens the backend that config-sidestep names, for the
// controller, which makes and removes logs and groups, and for dispatchers,
// which use them. Both keep trying while it cannot be reached.
//
//	config-sidestep --> Open --> embedded: the store's Service, with its password
//	                         '-> nats:     the server named there
package broker
