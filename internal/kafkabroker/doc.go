// Package kafkabroker runs a real Kafka broker on this machine: KRaft, one
// node that is controller and broker, on the loopback interface. Tests kill it
// and start it again; "hack/kafka up" leaves it running.
//
//	pom.xml -- mvn --> jars (kept in the user's cache) -- java --> formatted folder
//	                                                                    | copy
//	Start --> [ java kafka.Kafka: PLAINTEXT and, if wanted, SASL and TLS ] --> folder
//	            Kill, Restart, Stop
//
// It needs java (17 or later) and mvn on the PATH; Available says what is
// missing.
package kafkabroker
