package natsbackend

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

func newUser(t *testing.T) nkeys.KeyPair {
	t.Helper()
	k, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicOf(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	p, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func seedOf(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	s, err := k.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return string(s)
}

// realm is an operator, and one account of it with JetStream.
type realm struct {
	operator, account, system nkeys.KeyPair
	claims                    *jwt.AccountClaims
	accounts                  *server.MemAccResolver
}

func newRealm(t *testing.T) *realm {
	t.Helper()
	r := &realm{accounts: new(server.MemAccResolver)}
	for to, create := range map[*nkeys.KeyPair]func() (nkeys.KeyPair, error){
		&r.operator: nkeys.CreateOperator, &r.account: nkeys.CreateAccount, &r.system: nkeys.CreateAccount,
	} {
		var err error
		if *to, err = create(); err != nil {
			t.Fatal(err)
		}
	}
	r.claims = jwt.NewAccountClaims(publicOf(t, r.account))
	r.claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
		DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1, MaxAckPending: -1,
	}
	r.store(t, r.claims)
	r.store(t, jwt.NewAccountClaims(publicOf(t, r.system)))
	return r
}

func (r *realm) store(t *testing.T, c *jwt.AccountClaims) {
	t.Helper()
	text, err := c.Encode(r.operator)
	if err == nil {
		err = r.accounts.Store(c.Subject, text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *realm) options(t *testing.T) server.Options {
	return server.Options{
		TrustedKeys: []string{publicOf(t, r.operator)}, SystemAccount: publicOf(t, r.system),
		AccountResolver: r.accounts,
	}
}

// credentials are a user's, as nsc writes them.
func (r *realm) credentials(t *testing.T, user nkeys.KeyPair, by nkeys.KeyPair) string {
	t.Helper()
	token, err := jwt.NewUserClaims(publicOf(t, user)).Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := jwt.FormatUserConfig(token, []byte(seedOf(t, user)))
	if err != nil {
		t.Fatal(err)
	}
	return string(c)
}

func TestAuthenticationIsNotPassedBy(t *testing.T) {
	t.Parallel()
	user, realm := newUser(t), newRealm(t)
	other := newRealm(t)
	for name, test := range map[string]struct {
		server     server.Options
		right, bad Config
	}{
		"user and password": {
			server.Options{Username: "sidestep", Password: secret},
			Config{User: "sidestep", Password: secret},
			Config{User: "sidestep", Password: "wrong-" + secret},
		},
		"password in a file": {
			server.Options{Username: "sidestep", Password: secret},
			Config{User: "sidestep", PasswordFile: file(t, secret+"\n")},
			Config{User: "sidestep", PasswordFile: file(t, "wrong-"+secret)},
		},
		"token": {
			server.Options{Authorization: secret}, Config{Token: secret}, Config{Token: "wrong-" + secret},
		},
		"token in a file": {
			server.Options{Authorization: secret},
			Config{TokenFile: file(t, secret+"\n")},
			Config{TokenFile: file(t, "wrong-"+secret)},
		},
		"nkey": {
			server.Options{Nkeys: []*server.NkeyUser{{Nkey: publicOf(t, user)}}},
			Config{NKeyFile: file(t, seedOf(t, user))},
			Config{NKeyFile: file(t, seedOf(t, newUser(t)))},
		},
		"credentials": {
			realm.options(t),
			Config{CredentialsFile: file(t, realm.credentials(t, user, realm.account))},
			Config{CredentialsFile: file(t, other.credentials(t, user, other.account))},
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

// logged is a log to be searched for secrets.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// userSeed is the secret of a nkey. A server's name, which is a public one, has as
// many letters, any of them.
var userSeed = regexp.MustCompile(`\bSU[A-Z2-7]{56}\b`)

// rotate: the server takes the new secret and refuses the old one; the file is
// replaced only once we have been refused; all goes on without a restart.
func rotate(t *testing.T, c Config, before *server.Options, reload func(s *server.Server), replace func()) {
	t.Helper()
	s := start(t, before)
	log := new(logged)
	c.URL, c.Logger = s.ClientURL(), slog.New(slog.NewTextHandler(log, nil))
	b := connectTo(t, c)
	name := makeLog(t, b, false, "g")
	sub := subscribe(t, b, name, "g", backend.Options{})
	publish(t, b, name, "before")
	ackAll(t, sub, receive(t, sub))
	reload(s)
	eventually(t, "refusals", func() error {
		if n := strings.Count(strings.ToLower(log.String()), "auth"); n < 3 {
			return fmt.Errorf("%d in the log", n)
		}
		return nil
	})
	err := b.Publish(ctxOf(t), name, &backend.Record{})
	wantError(t, "Publish while refused", err, backend.ErrUnavailable)
	replace()
	eventually(t, "publish with the new secret", func() error {
		return b.Publish(ctxOf(t), name, &backend.Record{Data: []byte("after")})
	})
	if d := receive(t, sub); string(d.Data) != "after" {
		t.Errorf("received %q", d.Data)
	} else {
		ackAll(t, sub, d)
	}
	if seed := seedOf(t, newUser(t)); !userSeed.MatchString(seed) {
		t.Fatalf("%s is not taken for a seed", seed)
	}
	for _, text := range []string{log.String(), fmt.Sprint(err)} {
		if strings.Contains(text, secret) || userSeed.MatchString(text) {
			t.Errorf("%q holds a secret", text)
		}
	}
}

func reloaded(t *testing.T, o *server.Options) func(*server.Server) {
	return func(s *server.Server) {
		t.Helper()
		if err := s.ReloadOptions(o.Clone()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARotatedSecretNeedsNoRestart(t *testing.T) {
	t.Parallel()
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		o := &server.Options{Username: "sidestep", Password: secret}
		f := file(t, secret)
		rotate(t, Config{User: "sidestep", PasswordFile: f}, o, func(s *server.Server) {
			o.Password = "new-" + secret
			reloaded(t, o)(s)
		}, func() { write(t, f, "new-"+secret) })
	})
	t.Run("token", func(t *testing.T) {
		t.Parallel()
		o := &server.Options{Authorization: secret}
		f := file(t, secret)
		rotate(t, Config{TokenFile: f}, o, func(s *server.Server) {
			o.Authorization = "new-" + secret
			reloaded(t, o)(s)
		}, func() { write(t, f, "new-"+secret) })
	})
	t.Run("nkey", func(t *testing.T) {
		t.Parallel()
		user, next := newUser(t), newUser(t)
		o := &server.Options{Nkeys: []*server.NkeyUser{{Nkey: publicOf(t, user)}}}
		f := file(t, seedOf(t, user))
		rotate(t, Config{NKeyFile: f}, o, func(s *server.Server) {
			o.Nkeys = []*server.NkeyUser{{Nkey: publicOf(t, next)}}
			reloaded(t, o)(s)
		}, func() { write(t, f, seedOf(t, next)) })
	})
	t.Run("credentials", func(t *testing.T) {
		t.Parallel()
		user, realm := newUser(t), newRealm(t)
		o := realm.options(t)
		f := file(t, realm.credentials(t, user, realm.account))
		rotate(t, Config{CredentialsFile: f}, &o, func(s *server.Server) {
			realm.claims.RevokeAt(publicOf(t, user), time.Now().Add(time.Minute))
			realm.store(t, realm.claims)
			a, err := s.LookupAccount(publicOf(t, realm.account))
			if err != nil {
				t.Fatal(err)
			}
			s.UpdateAccountClaims(a, realm.claims)
		}, func() { write(t, f, realm.credentials(t, newUser(t), realm.account)) })
	})
}

func TestTLSDoesNotTrustAnotherAuthority(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	url := startListening(t, server.Options{
		TLS: true, TLSTimeout: 5,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{ours.server(t)}, MinVersion: tls.VersionTLS13},
	})
	works(t, Config{URL: url, CAFile: ours.file})
	refused(t, Config{URL: url, CAFile: theirs.file}, "unknown authority")
	refused(t, Config{URL: url}, "unknown authority")
}

func TestTLSDoesNotTrustACertificateForAnotherName(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	url := startListening(t, server.Options{
		TLS: true, TLSTimeout: 5,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{ours.server(t, "localhost")}, MinVersion: tls.VersionTLS13},
	})
	refused(t, Config{URL: url, CAFile: ours.file}, "127.0.0.1")
	works(t, Config{URL: strings.Replace(url, "127.0.0.1", "localhost", 1), CAFile: ours.file})
}

func TestWhatIsToBeEncryptedIsNotSentInTheClear(t *testing.T) {
	t.Parallel()
	url := startListening(t, server.Options{})
	refused(t, Config{URL: url, CAFile: newAuthority(t).file}, "secure connection not available")
	refused(t, Config{URL: strings.Replace(url, "nats:", "tls:", 1)}, "secure connection not available")
}

func TestAClientCertificateIsAskedForAndRotated(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	o := &server.Options{
		TLS: true, TLSVerify: true, TLSTimeout: 5,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{ours.server(t)}, MinVersion: tls.VersionTLS13,
			ClientCAs: ours.pool(), ClientAuth: tls.RequireAndVerifyClientCert,
		},
	}
	s := start(t, o)
	p := brokertest.StartProxy(t, s.Addr().String())
	c := Config{URL: "tls://" + p.Address(), CAFile: ours.file}
	// With TLS 1.3 the refusal comes after the handshake: what we see first of it
	// may be an alert, or that the connection is gone.
	refused(t, c, "unavailable")
	c.CertFile, c.KeyFile = theirs.client(t)
	refused(t, c, "unavailable")
	c.CertFile, c.KeyFile = ours.client(t)
	b := connectTo(t, c)
	log := makeLog(t, b, false, "g")
	publish(t, b, log, "before")

	// Both sides move on to another authority.
	cutOff(t, b, p)
	o.TLSConfig = o.TLSConfig.Clone()
	o.TLSConfig.Certificates = []tls.Certificate{theirs.server(t)}
	o.TLSConfig.ClientCAs = theirs.pool()
	reloaded(t, o)(s)
	p.Mend()
	wantError(t, "Publish while refused", b.Publish(ctxOf(t), log, &backend.Record{}), backend.ErrUnavailable)
	cert, key := theirs.client(t)
	for to, from := range map[string]string{c.CertFile: cert, c.KeyFile: key, c.CAFile: theirs.file} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, string(content))
	}
	eventually(t, "publish with the new certificate", func() error {
		return b.Publish(ctxOf(t), log, &backend.Record{})
	})
}

func TestPersistWaitsForAServer(t *testing.T) {
	t.Parallel()
	address := brokertest.FreeAddress(t)
	f := file(t, "wrong-"+secret)
	log := new(logged)
	connected := make(chan *Backend, 1)
	ctx := ctxOf(t)
	go func() {
		b, err := Connect(ctx, Config{
			URL: "nats://" + address, TokenFile: f, Persist: true, Logger: slog.New(slog.NewTextHandler(log, nil)),
		})
		if err != nil {
			t.Errorf("Connect: %v", err)
		}
		connected <- b
	}()
	said := func(text string) {
		eventually(t, text, func() error {
			if !strings.Contains(log.String(), text) {
				return errors.New(log.String())
			}
			return nil
		})
	}
	said("no servers available")
	_, port, _ := strings.Cut(address, ":")
	o := &server.Options{Authorization: secret}
	if _, err := fmt.Sscan(port, &o.Port); err != nil {
		t.Fatal(err)
	}
	start(t, o)
	said("Authorization Violation")
	write(t, f, secret)
	b := <-connected
	if b == nil {
		return
	}
	defer closeBackend(t, b)
	publish(t, b, makeLog(t, b, false, "g"), "through")
}

func TestPersistEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no more patience")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	_, err := Connect(ctx, Config{URL: "nats://127.0.0.1:1", Persist: true})
	wantError(t, "Connect", err, why)
	wantError(t, "Connect", err, backend.ErrUnavailable)
}

// The server ends the connection with an error after which the client library
// would give up.
func TestAnErrorOfTheServerDoesNotEndTheBackend(t *testing.T) {
	t.Parallel()
	o := &server.Options{MaxPayload: 1 << 20}
	s := start(t, o)
	b := connectTo(t, Config{URL: s.ClientURL()})
	log := makeLog(t, b, false, "g")
	o.MaxPayload = 64 << 10
	reloaded(t, o)(s)
	large := &backend.Record{Data: make([]byte, 256<<10)}
	wantError(t, "Publish", b.Publish(ctxOf(t), log, large), backend.ErrUnavailable)
	eventually(t, "publish", func() error { return b.Publish(ctxOf(t), log, &backend.Record{}) })
	wantError(t, "Publish", b.Publish(ctxOf(t), log, large), backend.ErrTooLarge)
}
