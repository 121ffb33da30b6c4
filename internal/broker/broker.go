package broker

import (
	"context"
	"log/slog"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/kafkabackend"
	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// Kafka connects to the brokers that k names. instance is kafkabackend.Config's.
// Errors are those of kafkabackend.Connect.
func Kafka(ctx context.Context, k *manifest.Kafka, instance string, logger *slog.Logger) (backend.Backend, error) {
	return kafkabackend.Connect(ctx, kafkabackend.Config{
		Brokers: k.Brokers, TLS: k.TLS, CAFile: k.Files.CAFile, CertFile: k.Files.CertFile, KeyFile: k.Files.KeyFile,
		Mechanism: k.SASL.Mechanism, UserFile: k.SASL.UserFile, PasswordFile: k.SASL.PasswordFile,
		TopicTemplate: k.TopicTemplate, Partitions: k.Partitions, Replicas: k.ReplicationFactor, Retention: k.Retention,
		Instance: instance, Logger: logger,
	})
}

// NATS connects to the servers that n names. Errors are those of natsbackend.Connect.
func NATS(ctx context.Context, n *manifest.NATS, logger *slog.Logger) (backend.Backend, error) {
	return natsbackend.Connect(ctx, natsbackend.Config{
		URL: n.URL, CredentialsFile: n.CredentialsFile, NKeyFile: n.NKeyFile, TokenFile: n.TokenFile,
		User: n.User, PasswordFile: n.PasswordFile,
		CAFile: n.TLS.CAFile, CertFile: n.TLS.CertFile, KeyFile: n.TLS.KeyFile,
		Replicas: n.Replicas, Memory: n.Memory, Logger: logger,
	})
}
