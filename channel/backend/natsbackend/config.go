package natsbackend

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// Config of a connection. URL or Server is required; for all else the zero
// value is a sound default.
type Config struct {
	// URL names the servers, separated by commas ("nats://a:4222,nats://b:4222").
	URL string
	// Server, if set, is an embedded server to use instead of URL.
	Server *Server

	// How we say who we are; one of them at most. CredentialsFile is a file
	// with a user's JWT and seed (as nsc makes it), NKeyFile one with a seed
	// alone, TokenFile one with a token. User goes with a password, or with a
	// file that holds it. White space around what a file holds is ignored.
	// Files are read anew for each connection: replacing what they hold is
	// all that a rotation takes.
	CredentialsFile              string
	NKeyFile                     string
	Token, TokenFile             string
	User, Password, PasswordFile string
	// CAFile holds the authorities that a server's certificate may come from;
	// without it they are the system's. CertFile and KeyFile are our own
	// certificate (PEM). Each of them has the connection encrypted, as does
	// "tls://" in a URL, or a server that wants it. Read anew as well.
	CAFile, CertFile, KeyFile string

	// Persist has Connect try again while its context lasts, with backoff,
	// rather than fail when no server can be used at once.
	Persist bool

	// Prefix begins the name of every stream and subject: letters, digits,
	// '-' and '_'. "" means "sidestep".
	Prefix string
	// Replicas of every stream. 0 means 1.
	Replicas int
	// Memory keeps new streams in memory: what they hold is lost when the
	// server stops.
	Memory bool
	// MaxRecordsPerLog bounds the records that one log keeps; JetStream
	// cannot bound their bytes by log. Beyond it Publish says ErrFull. 0
	// means 1,000,000; negative: no bound.
	MaxRecordsPerLog int64
	// MaxBytesPerShard bounds the bytes that the logs of one shard (of 64)
	// keep together. Beyond it Publish says ErrFull. 0: no bound.
	MaxBytesPerShard int64
	// AckWait is how long the broker waits for a sign of life from the
	// holder of a record before it gives the record to another. 0 means
	// 10 s. It is fixed when a group is made.
	AckWait time.Duration
	// RequestTimeout bounds one exchange with the broker. 0 means 10 s.
	RequestTimeout time.Duration

	// Logger takes what happens to the connection. nil: nothing is logged.
	Logger *slog.Logger
}

// Validate tells what is wrong, before anything is connected. Errors name the
// fields, and hold no secret.
func (c *Config) Validate() error {
	if (c.URL == "") == (c.Server == nil) {
		return errors.New("nats: exactly one of URL and Server is wanted")
	}
	if err := checkURLs(c.URL); err != nil {
		return err
	}
	if err := c.validateIdentity(); err != nil {
		return err
	}
	for _, r := range c.Prefix {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", r) {
			return fmt.Errorf("nats: prefix %q: %q is not allowed in it", c.Prefix, r)
		}
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		return fmt.Errorf("nats: %d replicas: 1 to 5 are possible", c.Replicas)
	}
	if c.AckWait != 0 && c.AckWait < time.Second {
		return fmt.Errorf("nats: ack wait %v: at least 1s", c.AckWait)
	}
	if c.MaxBytesPerShard < 0 {
		return fmt.Errorf("nats: %d bytes per shard", c.MaxBytesPerShard)
	}
	return nil
}

// servers are the URLs, one by one, each with a scheme.
func servers(list string) []string {
	all := strings.Split(list, ",")
	for i, u := range all {
		if u = strings.TrimSpace(u); !strings.Contains(u, "://") {
			u = "nats://" + u
		}
		all[i] = u
	}
	return all
}

// checkURLs keeps the client library from parsing what it cannot: its errors
// quote the URL, which may hold a password. Hence no cause is given here.
func checkURLs(list string) error {
	if list == "" {
		return nil
	}
	for i, text := range servers(list) {
		u, err := url.Parse(text)
		if err != nil {
			return fmt.Errorf("nats: URL: server %d cannot be parsed; "+
				"special characters in a user or password must be escaped", i+1)
		}
		if u.Scheme != "nats" && u.Scheme != "tls" {
			return fmt.Errorf("nats: URL: server %d: scheme %q: want nats or tls", i+1, u.Scheme)
		}
		if u.Hostname() == "" {
			return fmt.Errorf("nats: URL: server %d has no host", i+1)
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "sidestep"
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.MaxRecordsPerLog == 0 {
		c.MaxRecordsPerLog = 1_000_000
	}
	if c.AckWait == 0 {
		c.AckWait = 10 * time.Second
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
