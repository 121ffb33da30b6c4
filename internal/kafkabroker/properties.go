package kafkabroker

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// properties is the broker's configuration. Small is beautiful here: it serves
// tests, which make many small topics and want it to start soon.
func properties(b *Broker, controller string, o Options) string {
	listeners, protocols := "PLAINTEXT://"+b.Address+",CONTROLLER://"+controller, "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
	advertised := "PLAINTEXT://" + b.Address
	p := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          "1",
		"controller.quorum.voters":                         "1@" + controller,
		"controller.listener.names":                        "CONTROLLER",
		"inter.broker.listener.name":                       "PLAINTEXT",
		"log.dirs":                                         b.dir + "/data",
		"num.partitions":                                   "1",
		"auto.create.topics.enable":                        "false",
		"offsets.topic.num.partitions":                     "1",
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.num.partitions":             "1",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"share.coordinator.state.topic.num.partitions":     "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"group.initial.rebalance.delay.ms":                 "0",
		"log.index.size.max.bytes":                         "1048576",
		"offsets.topic.segment.bytes":                      "16777216",
		"broker.session.timeout.ms":                        "2000", // a killed one may come back after that
		"broker.heartbeat.interval.ms":                     "500",
	}
	if s := o.Secure; s != nil {
		listeners += ",SECURE://" + b.SecureAddress
		advertised += ",SECURE://" + b.SecureAddress
		protocols += ",SECURE:SASL_SSL"
		maps.Copy(p, s.properties())
	}
	p["listeners"], p["advertised.listeners"], p["listener.security.protocol.map"] = listeners, advertised, protocols
	maps.Copy(p, o.Properties)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&text, "%s=%s\n", name, p[name])
	}
	return text.String()
}

// Secure is what a listener with TLS and SASL needs.
type Secure struct {
	// Keystore is a PEM file with the server's private key (PKCS #8) and its
	// certificate, which must be valid for 127.0.0.1.
	Keystore string
	// User and Password are known to PLAIN and to both kinds of SCRAM.
	User, Password string
}

func (s *Secure) properties() map[string]string {
	const prefix = "listener.name.secure."
	scram := "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	return map[string]string{
		prefix + "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		prefix + "plain.sasl.jaas.config": fmt.Sprintf(
			"org.apache.kafka.common.security.plain.PlainLoginModule required user_%s=\"%s\";", s.User, s.Password),
		prefix + "scram-sha-256.sasl.jaas.config": scram,
		prefix + "scram-sha-512.sasl.jaas.config": scram,
		prefix + "ssl.keystore.type":              "PEM",
		prefix + "ssl.keystore.location":          s.Keystore,
	}
}

// scram are the arguments that have the users made with the folder.
func (s *Secure) scram() []string {
	var args []string
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, s.User, s.Password))
	}
	return args
}

// Port of an address.
func Port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
