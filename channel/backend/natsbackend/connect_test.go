package natsbackend

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

const secret = "s3cret-of-the-test"

// startListening starts a server with clients from outside and returns its URL.
func startListening(t *testing.T, o server.Options) string {
	t.Helper()
	return start(t, &o).ClientURL()
}

// start starts a server with o, to which it adds what ReloadOptions needs to find
// again.
func start(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	if o.Port == 0 {
		o.Port = -1
	}
	o.Host, o.JetStream, o.StoreDir = "127.0.0.1", true, t.TempDir()
	o.NoLog, o.NoSigs = true, true
	s, err := server.NewServer(o.Clone()) // which fills in the rest
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
	return s
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
	refused(t, Config{URL: url, TokenFile: absent}, absent)
	refused(t, Config{URL: url, User: "sidestep", PasswordFile: absent}, absent)
	refused(t, Config{URL: url, CAFile: absent}, absent)
	refused(t, Config{URL: url, CertFile: absent, KeyFile: absent}, absent)
}

func TestAFileThatHoldsSomethingElseIsNotPassedBy(t *testing.T) {
	t.Parallel()
	url := startListening(t, server.Options{})
	odd := file(t, "not what it should be, but a "+secret)
	empty := file(t, " \n")
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	refused(t, Config{URL: url, CredentialsFile: odd}, "no user JWT")
	refused(t, Config{URL: url, NKeyFile: odd}, "no nkey seed")
	refused(t, Config{URL: url, NKeyFile: file(t, seedOf(t, account))}, "not a user's")
	refused(t, Config{URL: url, TokenFile: empty}, "empty")
	refused(t, Config{URL: url, User: "sidestep", PasswordFile: empty}, "empty")
	refused(t, Config{URL: url, CAFile: odd}, "no certificate")
	refused(t, Config{URL: url, CertFile: odd, KeyFile: odd}, odd)
}

func TestConfigsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	const url = "nats://127.0.0.1:1"
	for want, c := range map[string]Config{
		"exactly one of URL and Server":                    {},
		"scheme \"ws\"":                                    {URL: url + ",ws://127.0.0.1"},
		"server 2 has no host":                             {URL: url + ","},
		"CredentialsFile and NKeyFile: one of them":        {URL: url, CredentialsFile: "a", NKeyFile: "b"},
		"Token and TokenFile: one of them":                 {URL: url, Token: secret, TokenFile: "b"},
		"a user in URL and User: one of them":              {URL: "nats://u:" + secret + "@h", User: "u", Password: secret},
		"Password without User":                            {URL: url, Password: secret},
		"exactly one of Password and PasswordFile":         {URL: url, User: "u"},
		"User: exactly one of Password and PasswordFile":   {URL: url, User: "u", Password: secret, PasswordFile: "b"},
		"CertFile and KeyFile go together":                 {URL: url, CertFile: "a"},
		"an embedded server takes neither credentials nor": {Server: new(Server), Token: secret},
	} {
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("error %q holds a secret", err)
		}
	}
}

func TestAServerThatTakesNoRecordsIsNotConnectedTo(t *testing.T) {
	t.Parallel()
	refused(t, Config{URL: startListening(t, server.Options{MaxPayload: wireOverhead})}, "max_payload")
}

func TestAConnectionRefusedIsUnavailable(t *testing.T) {
	t.Parallel()
	_, err := Connect(ctxOf(t), Config{URL: "nats://127.0.0.1:1"})
	if !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
}

// Objects travel on connections of their own, in messages of which some have
// headers and come with an ack subject, as records do.
func TestAnotherConnectionIsNotForRecords(t *testing.T) {
	t.Parallel()
	o := server.Options{Authorization: secret}
	for name, c := range map[string]Config{
		"embedded": {Server: startServer(t, ServerConfig{})},
		"external": {URL: startListening(t, o), Token: secret},
	} {
		nc, err := connectTo(t, c).Dial("another")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(nc.Close)
		js, err := nc.JetStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.AddStream(&nats.StreamConfig{Name: "objects", Subjects: []string{"o.*"}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m := &nats.Msg{Subject: "o.1", Header: nats.Header{"a": {"b"}}, Data: []byte("data")}
		if _, err := js.PublishMsg(m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sub, err := js.SubscribeSync("o.1", nats.OrderedConsumer())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Subject != "o.1" || got.Header.Get("a") != "b" || string(got.Data) != "data" {
			t.Errorf("%s: %s %q %q", name, got.Subject, got.Header, got.Data)
		}
	}
}
