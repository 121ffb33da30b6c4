package kafkabackend

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest/kafkatest"
	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

// certificate makes one for 127.0.0.1 that is its own authority: a file with it,
// and one with it and its key.
func certificate(t *testing.T) (ca, keystore string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	dir := t.TempDir()
	ca, keystore = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "server.pem")
	must(t, os.WriteFile(ca, public, 0o600))
	must(t, os.WriteFile(keystore, bytes.Join([][]byte{private, public}, nil), 0o600))
	return ca, keystore
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestBrokersThatWantTLSAndAPasswordGetThem(t *testing.T) {
	t.Parallel()
	ca, keystore := certificate(t)
	broker := kafkatest.Start(t, kafkabroker.Options{Secure: &kafkabroker.Secure{Keystore: keystore, User: "sidestep", Password: "geheim"}})
	good := Config{
		Brokers: []string{broker.SecureAddress}, TLS: true, CAFile: ca,
		UserFile: file(t, "sidestep\n"), PasswordFile: file(t, "geheim\n"), RequestTimeout: 20 * time.Second,
	}
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		c := good
		c.Mechanism = mechanism
		b := connectTo(t, c)
		log := makeLog(t, b, false, "g")
		publish(t, b, log, mechanism)
		sub := subscribe(t, b, log, "g", backend.Options{})
		if d := receive(t, sub); string(d.Data) != mechanism {
			t.Errorf("%s: received %q", mechanism, d.Data)
		}

		c.PasswordFile = file(t, "wrong")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := Connect(ctx, c)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "SASL "+mechanism) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s: a wrong password: %v", mechanism, err)
		}
	}
	c := good
	c.Mechanism, c.CAFile = "PLAIN", ""
	if _, err := Connect(ctxOf(t), c); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("a certificate of nobody we trust: %v", err)
	}
}

// A rotation replaces what the files hold: the next connection goes by it.
func TestTheAuthoritiesOfTheMomentAreTrusted(t *testing.T) {
	t.Parallel()
	first, _ := certificate(t)
	second, _ := certificate(t)
	pemOf := func(name string) []byte {
		b, err := os.ReadFile(name)
		must(t, err)
		return b
	}
	c := Config{Brokers: []string{"127.0.0.1:1"}, TLS: true, CAFile: file(t, string(pemOf(first)))}
	d, err := c.dialer()
	must(t, err)
	trusts := func(want string) {
		t.Helper()
		got, err := d.tls()
		must(t, err)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pemOf(want))
		if !got.RootCAs.Equal(pool) {
			t.Error("it trusts others than the file has")
		}
	}
	trusts(first)
	must(t, os.WriteFile(c.CAFile, pemOf(second), 0o600))
	trusts(second)
	must(t, os.WriteFile(c.CAFile, []byte("x"), 0o600))
	if _, err := d.tls(); err == nil || !strings.Contains(err.Error(), c.CAFile) {
		t.Errorf("a file without a certificate: %v", err)
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"at least one host:port":            func(c *Config) { c.Brokers = nil },
		`broker "kafka"`:                    func(c *Config) { c.Brokers = []string{"kafka"} },
		`prefix "a.b"`:                      func(c *Config) { c.Prefix = "a.b" },
		"{id} is missing":                   func(c *Config) { c.TopicTemplate = "{namespace}.{name}" },
		"beside {namespace}":                func(c *Config) { c.TopicTemplate = "{nmespace}/{id}" },
		"would exceed 249":                  func(c *Config) { c.TopicTemplate = strings.Repeat("x", 230) + "{id}" },
		"-1 partitions":                     func(c *Config) { c.Partitions = -1 },
		"retention 1s":                      func(c *Config) { c.Retention = time.Second },
		"ack wait 1ms":                      func(c *Config) { c.AckWait = time.Millisecond },
		"TLS is off":                        func(c *Config) { c.CAFile = "x" },
		"needs its key":                     func(c *Config) { c.TLS, c.CertFile = true, "x" },
		"no SASL mechanism":                 func(c *Config) { c.UserFile = "x" },
		`SASL mechanism "GSSAPI"`:           func(c *Config) { c.Mechanism = "GSSAPI" },
		"SASL PLAIN needs files with a":     func(c *Config) { c.Mechanism = "PLAIN" },
		"at most 10000, 100 and 64 MiB are": func(c *Config) { c.MaxRecordBytes = 1 << 30 },
	} {
		c := Config{Brokers: []string{"127.0.0.1:9092"}}
		must(t, c.Validate())
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want one with %q", err, want)
		}
	}
}

func TestTopicsAreNamedAfterTheirLogs(t *testing.T) {
	t.Parallel()
	for log, want := range map[string]string{
		"default/pics-kn-sequence-0": "s.default.pics-kn-sequence-0.ID", "a.b/c_d": "s.a-b.c-d.ID",
		"/": "s...ID", "\xc5\xbe": "s..--.ID", "a/b/c": "s.a.b-c.ID", strings.Repeat("n", 300) + "/x": "s." + strings.Repeat("n", 63) + ".x.ID",
	} {
		if got := topicOf("s.{namespace}.{name}.{id}", log, "ID"); got != want {
			t.Errorf("log %.20q: topic %s, want %s", log, got, want)
		}
		if got := topicOf("s.{namespace}.{name}.{id}", log, "ID"); strings.Trim(got, letters+".") != "" || len(got) > 249 {
			t.Errorf("log %.20q: topic %s", log, got)
		}
	}
}
