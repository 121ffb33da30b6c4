package natsbackend

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

const secret = "s3cret-of-the-test"

// startListening starts a server with clients from outside and returns its URL.
func startListening(t *testing.T, o server.Options) string {
	t.Helper()
	o.Host, o.Port, o.JetStream, o.StoreDir = "127.0.0.1", -1, true, t.TempDir()
	o.NoLog, o.NoSigs = true, true
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("nats-server is not ready")
	}
	return s.ClientURL()
}

// works: a record goes through.
func works(t *testing.T, c Config) {
	t.Helper()
	b := connectTo(t, c)
	log := makeLog(t, b, false, "g")
	publish(t, b, log, "through")
	sub := subscribe(t, b, log, "g", backend.Options{})
	ackAll(t, sub, receive(t, sub))
}

// refused: the error names the problem, and not the secret.
func refused(t *testing.T, c Config, problem string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b, err := Connect(ctx, c)
	if err == nil {
		b.Close(ctx)
		t.Fatal("connected")
	}
	if !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(problem)) {
		t.Errorf("error %q does not name the problem (%q)", err, problem)
	}
	for _, s := range []string{secret, "wrong-" + secret, secret[:4]} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("error %q holds a secret", err)
		}
	}
}

func TestAuthenticationIsNotPassedBy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		server     server.Options
		right, bad Config
	}{
		"user and password": {
			server.Options{Username: "sidestep", Password: secret},
			Config{User: "sidestep", Password: secret},
			Config{User: "sidestep", Password: "wrong-" + secret},
		},
		"token": {
			server.Options{Authorization: secret}, Config{Token: secret}, Config{Token: "wrong-" + secret},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := startListening(t, test.server)
			for _, c := range []*Config{&test.right, &test.bad} {
				c.URL, c.RequestTimeout = url, 5*time.Second
			}
			works(t, test.right)
			refused(t, test.bad, "authorization")
			refused(t, Config{URL: url}, "authorization")
		})
	}
}

func TestASecretInTheURLIsNotPartOfErrors(t *testing.T) {
	t.Parallel()
	url := startListening(t, server.Options{Username: "sidestep", Password: secret})
	at := func(userinfo string) string { return strings.Replace(url, "//", "//"+userinfo+"@", 1) }
	works(t, Config{URL: at("sidestep:" + secret)})
	refused(t, Config{URL: at("sidestep:wrong-" + secret)}, "authorization")
	refused(t, Config{URL: at("sidestep:%zz" + secret)}, "server 1")
	refused(t, Config{URL: "nats://127.0.0.1:1," + at("sidestep:a/"+secret)}, "server 2")
	refused(t, Config{URL: "nats://sidestep:" + secret + "@127.0.0.1:1"}, "no servers available")
}

func TestAMissingKeyFileIsNotPassedBy(t *testing.T) {
	t.Parallel()
	url := startListening(t, server.Options{})
	absent := filepath.Join(t.TempDir(), "absent")
	refused(t, Config{URL: url, CredentialsFile: absent}, absent)
	refused(t, Config{URL: url, NKeyFile: absent}, absent)
	refused(t, Config{URL: url, CAFile: absent}, absent)
	refused(t, Config{URL: url, CertFile: absent, KeyFile: absent}, absent)
}

func TestAServerThatTakesNoRecordsIsNotConnectedTo(t *testing.T) {
	t.Parallel()
	refused(t, Config{URL: startListening(t, server.Options{MaxPayload: wireOverhead})}, "max_payload")
}

func TestTLSDoesNotTrustAnotherAuthority(t *testing.T) {
	t.Parallel()
	ours, cert := newAuthority(t)
	theirs, _ := newAuthority(t)
	url := startListening(t, server.Options{
		TLS: true, TLSTimeout: 5,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
	})
	works(t, Config{URL: url, CAFile: ours})
	refused(t, Config{URL: url, CAFile: theirs}, "unknown authority")
	refused(t, Config{URL: url}, "unknown authority")
}

// newAuthority returns a file with its certificate, and a server's certificate.
func newAuthority(t *testing.T) (file string, cert tls.Certificate) {
	t.Helper()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, caDER := sign(t, ca, nil, nil)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "nats"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, der := sign(t, leaf, ca, caKey)
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// sign makes a key and its certificate, signed by parent or, if that is nil, by
// itself.
func sign(t *testing.T, c, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func TestAConnectionRefusedIsUnavailable(t *testing.T) {
	t.Parallel()
	_, err := Connect(ctxOf(t), Config{URL: "nats://127.0.0.1:1"})
	if !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
}
