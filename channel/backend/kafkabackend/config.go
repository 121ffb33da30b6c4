package kafkabackend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	saslplain "github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Config of a connection. Brokers is required; for all else the zero value is
// a sound default.
type Config struct {
	// Brokers are some of the cluster's, "host:port"; the others are found.
	Brokers []string

	// TLS encrypts the connections. CAFile holds trusted authorities, instead
	// of the system's; CertFile and KeyFile a client's certificate (PEM).
	// The files are read again for each connection, so that they may be changed.
	TLS                       bool
	CAFile, CertFile, KeyFile string
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; "" means no SASL.
	// UserFile and PasswordFile hold the name and the password, without
	// what white space there is around them. They are read again for each
	// connection, so that they may be changed.
	Mechanism              string
	UserFile, PasswordFile string

	// Prefix begins the names of Sidestep's own topics and of its groups:
	// letters, digits and '-'. Processes with the same prefix share their
	// logs. "" means "sidestep".
	Prefix string
	// TopicTemplate is the name of a log's topic. {namespace} and {name} are
	// the parts of the log's name, as far as a topic's name can hold them;
	// {id} is the log's incarnation, which makes the name unique and is
	// required. "" means "{prefix}.{namespace}.{name}.{id}".
	TopicTemplate string
	// Partitions of a new log. 0 means 1. An Ordered log keeps to those it
	// was made with, also when its topic gets more.
	Partitions int
	// Replicas of every topic. 0 means 1. With 3 and more, one less must be
	// in sync (min.insync.replicas).
	Replicas int
	// Retention is for how long a record is kept, whether acked or not. 0:
	// for ever. What is removed before it was acked is counted; see Expired.
	Retention time.Duration
	// MaxRecordBytes is backend.Limits.MaxRecordBytes. 0 means 1 MiB.
	MaxRecordBytes int

	// AckWait is how long the other processes wait for a sign of life before
	// they take what this one holds. 0 means 6 s. It must be the same in all.
	AckWait time.Duration
	// Instance names this process among those with the same prefix, and
	// stays the same when it is started again: a new one then takes over
	// from a dead one at once. "" : after AckWait.
	Instance string
	// RequestTimeout bounds one exchange with a broker. 0 means 10 s.
	RequestTimeout time.Duration
	// Refresh is how often partitions that were added are looked for. 0
	// means 30 s.
	Refresh time.Duration

	// Dial makes connections. nil: as net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger takes what happens to the connections. nil: nothing is logged.
	Logger *slog.Logger
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

// Validate tells what is wrong, before anything is connected.
func (c *Config) Validate() error {
	if len(c.Brokers) == 0 {
		return errors.New("kafka: brokers: at least one host:port is wanted")
	}
	for _, b := range c.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			return fmt.Errorf("kafka: broker %q: host:port is wanted", b)
		}
	}
	if strings.Trim(c.Prefix, letters) != "" || len(c.Prefix) > 60 {
		return fmt.Errorf("kafka: prefix %q: up to 60 letters, digits and '-' are possible", c.Prefix)
	}
	if err := checkTemplate(c.TopicTemplate); err != nil {
		return err
	}
	for what, n := range map[string]int{"partitions": c.Partitions, "replicas": c.Replicas, "bytes in a record": c.MaxRecordBytes} {
		if n < 0 {
			return fmt.Errorf("kafka: %d %s: more than 0 are wanted", n, what)
		}
	}
	if c.Replicas > 100 || c.Partitions > 10_000 || c.MaxRecordBytes > 64<<20 {
		return fmt.Errorf("kafka: %d partitions, %d replicas, %d bytes in a record: at most 10000, 100 and 64 MiB are possible",
			c.Partitions, c.Replicas, c.MaxRecordBytes)
	}
	if c.Retention < 0 || (c.Retention > 0 && c.Retention < time.Minute) {
		return fmt.Errorf("kafka: retention %v: at least 1m", c.Retention)
	}
	if c.AckWait != 0 && (c.AckWait < time.Second || c.AckWait > 10*time.Minute) {
		return fmt.Errorf("kafka: ack wait %v: 1s to 10m", c.AckWait)
	}
	return c.validateSecurity()
}

func (c *Config) validateSecurity() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("kafka: a certificate needs its key, and a key its certificate")
	}
	if !c.TLS && (c.CAFile != "" || c.CertFile != "") {
		return errors.New("kafka: certificates are given, but TLS is off")
	}
	switch c.Mechanism {
	case "":
		if c.UserFile != "" || c.PasswordFile != "" {
			return errors.New("kafka: a user or password is given, but no SASL mechanism (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512)")
		}
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		if c.UserFile == "" || c.PasswordFile == "" {
			return fmt.Errorf("kafka: SASL %s needs files with a user and a password", c.Mechanism)
		}
	default:
		return fmt.Errorf("kafka: SASL mechanism %q: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are possible", c.Mechanism)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "sidestep"
	}
	if c.TopicTemplate == "" {
		c.TopicTemplate = c.Prefix + ".{namespace}.{name}.{id}"
	}
	c.Partitions = max(c.Partitions, 1)
	c.Replicas = max(c.Replicas, 1)
	if c.MaxRecordBytes == 0 {
		c.MaxRecordBytes = 1 << 20
	}
	if c.AckWait == 0 {
		c.AckWait = 6 * time.Second
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 10 * time.Second
	}
	if c.Refresh == 0 {
		c.Refresh = 30 * time.Second
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *Config) dialer() (*dialer, error) {
	d := &dialer{dial: c.Dial, client: "sidestep", timeout: c.RequestTimeout}
	if c.TLS {
		d.tls = c.tls
		if _, err := c.tls(); err != nil {
			return nil, err
		}
	}
	if c.Mechanism != "" {
		d.sasl = c.mechanism
		if _, err := c.mechanism(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// tls is for one connection: what the files hold may have been replaced.
func (c *Config) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka: read authorities: %w", err)
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka: no certificate in %s", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka: read certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return t, nil
}

func (c *Config) mechanism() (sasl.Mechanism, error) {
	user, err := os.ReadFile(c.UserFile)
	if err != nil {
		return nil, fmt.Errorf("kafka: read user: %w", err)
	}
	password, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("kafka: read password: %w", err)
	}
	u, p := strings.TrimSpace(string(user)), strings.TrimSpace(string(password))
	switch c.Mechanism {
	case "SCRAM-SHA-256":
		return scram.Mechanism(scram.SHA256, u, p)
	case "SCRAM-SHA-512":
		return scram.Mechanism(scram.SHA512, u, p)
	}
	return saslplain.Mechanism{Username: u, Password: p}, nil
}
