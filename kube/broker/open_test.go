package broker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/claimcheck/stores"
	"github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
	"github.com/sidestep-dev/sidestep/internal/store"
	"github.com/sidestep-dev/sidestep/kube/secrets"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheStoreKeepsLogsOnceItIsThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	password := filepath.Join(t.TempDir(), "password")
	clients := brokertest.FreeAddress(t)
	s := &Servers{
		Store:  Store{URL: "nats://" + clients, PasswordFile: password, Replicas: 1},
		Logger: slog.New(slog.DiscardHandler),
	}
	embedded := broker.Spec{Kind: manifest.BackendEmbedded}

	if _, err := s.Open(ctx, embedded, s.Logger); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("without a password: %v", err)
	}
	if err := os.WriteFile(password, []byte("correct horse battery"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(ctx, embedded, s.Logger); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("without a store: %v", err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- store.Run(running, store.Config{
			Dir: t.TempDir(), Name: "s-0", Listen: clients, Cluster: brokertest.FreeAddress(t), User: User, PasswordFile: password,
		})
	}()
	b, err := s.Open(ctx, embedded, s.Logger)
	for err != nil && ctx.Err() == nil {
		b, err = s.Open(ctx, embedded, s.Logger)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.EnsureLog(ctx, backend.Log{Name: "n/c"}); err != nil {
		t.Error(err)
	}
	if err := b.Publish(ctx, "n/c", &backend.Record{Data: []byte("x")}); err != nil {
		t.Error(err)
	}
	// Payloads are in the same store.
	c, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	url := s.ClaimStore(&manifest.ClaimCheck{})
	claims, err := stores.Open(ctx, url, stores.Options{NATS: c})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(claims.Put(ctx, "payload/n/x", strings.NewReader("large")), claims.Close(), b.Close(ctx)); err != nil {
		t.Error(err)
	}
	c.Close()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func mirror(t *testing.T, secret map[string]string) *secrets.Mirror {
	t.Helper()
	o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s"}, Data: map[string][]byte{}}
	for k, v := range secret {
		o.Data[k] = []byte(v)
	}
	return &secrets.Mirror{
		Reader:    fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(o).Build(),
		Namespace: "n", Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
	}
}

func TestASecretIsTheFilesOfABackend(t *testing.T) {
	all := map[string]string{"password": "p", "user": "u", "ca.crt": "CA", "tls.crt": "C", "tls.key": "K"}
	m := mirror(t, all)
	s := &Servers{Secrets: m}
	ctx := context.Background()
	in := func(who, key string) string { return filepath.Join(m.Dir, who, key) }

	n, err := s.nats(ctx, "nats-1", manifest.NATS{URL: "nats://x", User: "me", Secret: "s"})
	want := manifest.NATS{
		URL: "nats://x", User: "me", Secret: "s", PasswordFile: in("nats-1", "password"),
		TLS: manifest.NATSTLS{CAFile: in("nats-1", "ca.crt"), CertFile: in("nats-1", "tls.crt"), KeyFile: in("nats-1", "tls.key")},
	}
	if err != nil || n != want {
		t.Errorf("nats: %+v, %v", n, err)
	}
	k, err := s.kafka(ctx, "kafka-1", manifest.Kafka{SASL: manifest.KafkaSASL{Mechanism: "PLAIN", Secret: "s"}, TLS: true, TLSSecret: "s"})
	if err != nil || k.SASL.UserFile != in("kafka-1-sasl", "user") || k.SASL.PasswordFile != in("kafka-1-sasl", "password") ||
		k.Files.CAFile != in("kafka-1-tls", "ca.crt") || k.Files.KeyFile != in("kafka-1-tls", "tls.key") {
		t.Errorf("kafka: %+v, %v", k, err)
	}
	if b, err := os.ReadFile(k.SASL.PasswordFile); err != nil || string(b) != "p" {
		t.Errorf("the file has %q, %v", b, err)
	}
	if url, err := s.CompleteClaimStore(ctx, "s3://bucket?region=eu", "s"); err == nil || !strings.Contains(err.Error(), "no key credentials") {
		t.Errorf("s3: %s, %v", url, err)
	}
}

func TestASecretWithoutTheKeysThatAreNeededIsRefused(t *testing.T) {
	s := &Servers{Secrets: mirror(t, map[string]string{"other": "x", "user": "u"})}
	ctx := context.Background()
	_, err := s.Open(ctx, broker.Spec{Kind: manifest.BackendNATS, NATS: manifest.NATS{URL: "nats://x", Secret: "s"}}, s.Logger)
	if err == nil || !strings.Contains(err.Error(), "has none of the keys creds, nkey") {
		t.Errorf("nats: %v", err)
	}
	_, err = s.kafka(ctx, "k", manifest.Kafka{SASL: manifest.KafkaSASL{Secret: "s"}})
	if err == nil || !strings.Contains(err.Error(), "want the keys user and password") {
		t.Errorf("kafka: %v", err)
	}
	_, err = s.kafka(ctx, "k", manifest.Kafka{TLSSecret: "s"})
	if err == nil || !strings.Contains(err.Error(), "want the keys ca.crt") {
		t.Errorf("kafka: %v", err)
	}
	if err := s.Renew(ctx, broker.Spec{Kind: manifest.BackendNATS, NATS: manifest.NATS{Secret: "gone"}}); err == nil {
		t.Error("a Secret that is not there was taken")
	}
}

func TestTheCredentialsOfAPayloadStoreAreInItsURL(t *testing.T) {
	m := mirror(t, map[string]string{"credentials": "[default]"})
	s := &Servers{Secrets: m, Store: Store{Replicas: 3}}
	url, err := s.CompleteClaimStore(context.Background(), "s3://bucket?region=eu", "s")
	if err != nil || !strings.Contains(url, "credentials-file=") || stores.TakesCredentials(url) {
		t.Errorf("%s, %v", url, err)
	}
	if a, b := id(t, url), id(t, "s3://bucket?region=eu"); a != b {
		t.Errorf("it is another store: %s, %s", a, b)
	}
	if got := s.ClaimStore(&manifest.ClaimCheck{}); got != "nats://sidestep-claims?replicas=3" {
		t.Errorf("the default is %s", got)
	}
}

func id(t *testing.T, url string) string {
	t.Helper()
	id, err := stores.ID(url)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAStateComesBackAsItWas(t *testing.T) {
	cm := new(corev1.ConfigMap)
	if s, err := ReadState(cm); err != nil || !s.Empty() {
		t.Fatalf("one that is installed: %+v, %v", s, err)
	}
	if s, err := ReadState(nil); err != nil || !s.Empty() {
		t.Fatalf("none: %+v, %v", s, err)
	}
	s := &State{
		Config: manifest.Config{Backend: "nats", Namespaces: map[string]string{"team": "kafka"}, NATS: manifest.NATS{URL: "nats://x", Secret: "s"}},
		Homes:  broker.Homes{Default: "nats-1", Namespaces: map[string]string{"team": "kafka-1"}},
		Backends: map[string]broker.Spec{
			"nats-1": {Kind: "nats", NATS: manifest.NATS{URL: "nats://x"}}, "kafka-1": {Kind: "kafka", Kafka: manifest.Kafka{Brokers: []string{"b:1"}}},
		},
		ClaimStores: []string{"s3://a", "nats://b"}, ClaimSecrets: map[string]string{"s3://a": "x"},
	}
	s.Config.Dispatch.DrainOnDelete = time.Minute
	if changed, err := s.Write(cm); err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if changed, err := s.Write(cm); err != nil || changed {
		t.Errorf("written again: changed %v, %v", changed, err)
	}
	got, err := ReadState(cm)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got.Empty() || got.KindOf("kafka-1") != "kafka" || got.Homes.Of("team") != "kafka-1" || got.Homes.Of("x") != "nats-1" {
		t.Errorf("it means something else: %+v", got)
	}
	cm.Data["state"] = `{"version":2,"homes":[]}`
	if _, err := ReadState(cm); err == nil || !strings.Contains(err.Error(), "version 2, this program knows 1") {
		t.Errorf("a newer one: %v", err)
	}
}
