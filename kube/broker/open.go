package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/natsbackend"
	"github.com/sidestep-dev/sidestep/claimcheck/stores"
	"github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/kube/secrets"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// Store says how the store that comes with Sidestep is reached.
type Store struct {
	// URL of its Service.
	URL string
	// PasswordFile holds what clients show.
	PasswordFile string
	// Replicas of it: so many copies of each record are kept.
	Replicas int
}

// User is who clients of the store say they are.
const User = "sidestep"

// claimBucket is where payloads are kept unless config-sidestep says otherwise: in the
// store that comes with Sidestep, also where logs are elsewhere.
const claimBucket = "sidestep-claims"

// Servers opens what config-sidestep names, from within a cluster.
type Servers struct {
	Store   Store
	Secrets *secrets.Mirror
	// Pod is the name of the pod that this process is in, which a container that is
	// started again keeps; "": none that matters.
	Pod    string
	Logger *slog.Logger
}

// Open is a broker.Open. The error wraps backend.ErrUnavailable if trying again may
// help by itself.
func (s *Servers) Open(ctx context.Context, spec broker.Spec, logger *slog.Logger) (backend.Backend, error) {
	var err error
	switch spec.Kind {
	case manifest.BackendNATS:
		spec.NATS, err = s.nats(ctx, spec.ID(), spec.NATS)
	case manifest.BackendKafka:
		spec.Kafka, err = s.kafka(ctx, spec.ID(), spec.Kafka)
	}
	if err != nil {
		return nil, err
	}
	return broker.Connect(s.openStore, func(string) string { return s.Pod })(ctx, spec, logger)
}

// openStore reads the password anew whenever it connects: it may be another one by
// then.
func (s *Servers) openStore(ctx context.Context, spec broker.Spec, logger *slog.Logger) (backend.Backend, error) {
	c, err := s.storeConfig(logger)
	if err != nil {
		return nil, err
	}
	c.Memory = spec.NATS.Memory
	return natsbackend.Connect(ctx, c)
}

func (s *Servers) storeConfig(logger *slog.Logger) (natsbackend.Config, error) {
	if _, err := os.Stat(s.Store.PasswordFile); err != nil {
		return natsbackend.Config{}, fmt.Errorf("password of the store: %w", errors.Join(err, backend.ErrUnavailable))
	}
	return natsbackend.Config{
		URL: s.Store.URL, User: User, PasswordFile: s.Store.PasswordFile, Replicas: s.Store.Replicas, Logger: logger,
	}, nil
}

// Dial connects to the store that comes with Sidestep, for payloads.
func (s *Servers) Dial() (*nats.Conn, error) {
	c, err := s.storeConfig(s.Logger)
	if err != nil {
		return nil, err
	}
	return natsbackend.Dial(c, "sidestep claims")
}

// Renew has a backend that is open use the Secrets that its Spec names now. The files
// stay the same, and are read anew with each connection.
func (s *Servers) Renew(ctx context.Context, spec broker.Spec) error {
	var err error
	switch spec.Kind {
	case manifest.BackendNATS:
		_, err = s.nats(ctx, spec.ID(), spec.NATS)
	case manifest.BackendKafka:
		_, err = s.kafka(ctx, spec.ID(), spec.Kafka)
	}
	return err
}

// ClaimStore is the URL of the store that a configuration names, or of the default.
func (s *Servers) ClaimStore(c *manifest.ClaimCheck) string {
	switch {
	case c.Store != "":
		return c.Store
	case s.Store.Replicas > 1:
		return fmt.Sprintf("nats://%s?replicas=%d", claimBucket, s.Store.Replicas)
	default:
		return "nats://" + claimBucket
	}
}

// CompleteClaimStore adds the credentials in a Secret to the URL of a payload store.
func (s *Servers) CompleteClaimStore(ctx context.Context, url, secret string) (string, error) {
	if secret == "" {
		return url, nil
	}
	id, err := stores.ID(url)
	if err != nil {
		return "", err
	}
	files, err := s.Secrets.Keep(ctx, "claims-"+id, secret)
	if err != nil {
		return "", err
	}
	if files[keyCredentials] == "" {
		return "", fmt.Errorf("the Secret %s has no key %s", secret, keyCredentials)
	}
	return stores.WithCredentials(url, files[keyCredentials]), nil
}

// The keys of Secrets.
const (
	keyCreds, keyNKey, keyToken   = "creds", "nkey", "token"
	keyUser, keyPassword          = "user", "password"
	keyCA, keyCertificate, keyKey = "ca.crt", "tls.crt", "tls.key"
	keyCredentials                = "credentials" // of S3, as the AWS SDK reads them
)

func (s *Servers) nats(ctx context.Context, id string, n manifest.NATS) (manifest.NATS, error) {
	if n.Secret == "" {
		return n, nil
	}
	files, err := s.Secrets.Keep(ctx, id, n.Secret)
	if err != nil {
		return n, err
	}
	n.CredentialsFile, n.NKeyFile, n.TokenFile = files[keyCreds], files[keyNKey], files[keyToken]
	if n.User != "" {
		n.PasswordFile = files[keyPassword]
	}
	n.TLS = manifest.NATSTLS{CAFile: files[keyCA], CertFile: files[keyCertificate], KeyFile: files[keyKey]}
	if n.CredentialsFile+n.NKeyFile+n.TokenFile+n.PasswordFile+n.TLS.CAFile+n.TLS.CertFile == "" {
		return n, fmt.Errorf("the Secret %s has none of the keys %s, %s, %s, %s (with nats.user), %s, and %s with %s",
			n.Secret, keyCreds, keyNKey, keyToken, keyPassword, keyCA, keyCertificate, keyKey)
	}
	return n, nil
}

func (s *Servers) kafka(ctx context.Context, id string, k manifest.Kafka) (manifest.Kafka, error) {
	if name := k.SASL.Secret; name != "" {
		files, err := s.Secrets.Keep(ctx, id+"-sasl", name)
		if err != nil {
			return k, err
		}
		if k.SASL.UserFile, k.SASL.PasswordFile = files[keyUser], files[keyPassword]; k.SASL.UserFile == "" || k.SASL.PasswordFile == "" {
			return k, fmt.Errorf("the Secret %s: want the keys %s and %s", name, keyUser, keyPassword)
		}
	}
	if name := k.TLSSecret; name != "" {
		files, err := s.Secrets.Keep(ctx, id+"-tls", name)
		if err != nil {
			return k, err
		}
		k.Files = manifest.NATSTLS{CAFile: files[keyCA], CertFile: files[keyCertificate], KeyFile: files[keyKey]}
		if k.Files.CAFile+k.Files.CertFile == "" {
			return k, fmt.Errorf("the Secret %s: want the keys %s, or %s with %s, or all three", name, keyCA, keyCertificate, keyKey)
		}
	}
	return k, nil
}
