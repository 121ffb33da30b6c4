package manifest

import (
	"net"
	"time"
)

// Kafka is the data key kafka: which brokers, who we are there, and how they
// store. Paths are those of files that are read anew for each connection.
type Kafka struct {
	// Brokers are some of the cluster's, host:port. Required for BackendKafka.
	Brokers []string
	SASL    KafkaSASL
	// TLS has the connections encrypted; the files are as those of NATSTLS. TLSSecret
	// stands for them on a cluster: its keys are ca.crt, tls.crt and tls.key.
	TLS       bool
	Files     NATSTLS
	TLSSecret string
	// Partitions of a new topic, and ReplicationFactor of every topic; 0: the
	// backend's default.
	Partitions, ReplicationFactor int
	// Retention is how long a record is kept, settled or not; 0: for ever.
	Retention time.Duration
	// TopicTemplate names topics; "": the backend's default.
	TopicTemplate string
}

// KafkaSASL says who we are. Mechanism is PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or ""
// for nobody. Secret stands for the files on a cluster: its keys are user and password.
type KafkaSASL struct{ Mechanism, UserFile, PasswordFile, Secret string }

const leastRetention = time.Minute

func kafka(v value) Kafka {
	var k Kafka
	v.object(fields{
		"brokers": func(v value) {
			v.list(func(item value) {
				b := item.str()
				if host, port, err := net.SplitHostPort(b); isString(item.node) && (err != nil || host == "" || port == "") {
					item.problem("want HOST:PORT, got %q", b)
				}
				k.Brokers = append(k.Brokers, b)
			})
		},
		"sasl": func(v value) {
			s := &k.SASL
			v.object(fields{
				"mechanism":    func(v value) { s.Mechanism = v.oneOf("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512") },
				"userFile":     path(&s.UserFile),
				"passwordFile": path(&s.PasswordFile),
				"secret":       secret(&s.Secret, "userFile and passwordFile"),
			})
			switch {
			case s.Secret != "" && (s.UserFile != "" || s.PasswordFile != ""):
				v.problem("secret stands for userFile and passwordFile: name either it or them")
			case s.Secret != "" && s.Mechanism == "":
				v.problem("secret goes with a mechanism")
			case s.Secret == "" && (s.Mechanism == "" || s.UserFile == "" || s.PasswordFile == ""):
				v.problem("mechanism, userFile and passwordFile go together")
			}
		},
		"tls": func(v value) {
			k.TLS = true
			v.object(fields{
				"ca": path(&k.Files.CAFile), "cert": path(&k.Files.CertFile), "key": path(&k.Files.KeyFile),
				"secret": secret(&k.TLSSecret, "ca, cert and key"),
			})
			if k.TLSSecret != "" && k.Files != (NATSTLS{}) {
				v.problem("secret stands for ca, cert and key: name either it or them")
			}
			if (k.Files.CertFile == "") != (k.Files.KeyFile == "") {
				v.problem("cert and key go together")
			}
		},
		"partitions":        func(v value) { k.Partitions = int(v.integer(1, 10_000)) },
		"replicationFactor": func(v value) { k.ReplicationFactor = int(v.integer(1, 100)) },
		"retention":         func(v value) { k.Retention = goDuration(v, leastRetention) },
		"topicTemplate":     path(&k.TopicTemplate),
	})
	return k
}

// backends checks that what was chosen, and where, can be reached.
func (c *Config) backends(chosen map[string]value) {
	for name, at := range chosen {
		switch {
		case name == BackendNATS && c.NATS.URL == "":
			at.problem("nats needs the url of a server, in the key nats")
		case name == BackendKafka && len(c.Kafka.Brokers) == 0:
			at.problem("kafka needs brokers, in the key kafka")
		}
	}
}
