// Package brokertest gives tests a NATS server in a process of its own, or three of
// them that are a cluster, to be killed, and connections that can be cut or slow.
//
//	test --TCP--> [ Proxy: Cut, Mend, Poison ] --TCP--> [ Broker: a child; Kill, Restart ] --> folder
//
// The child is the test binary itself: TestMain begins with
//
//	if brokertest.IsBroker() {
//		os.Exit(brokertest.Serve())
//	}
//
// It dies with the test, whatever becomes of it.
package brokertest
