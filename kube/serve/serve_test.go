package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/eventingtls"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhoATokenSaysItIsOf(t *testing.T) {
	claims := func(json string) string {
		return "Bearer h." + base64.RawURLEncoding.EncodeToString([]byte(json)) + ".s"
	}
	tests := []struct {
		authorization, subject string
		err                    error
	}{
		{"", "", errNoToken},
		{"Basic x", "", errNoToken},
		{"Bearer ", "", errNoToken},
		{"Bearer a.b", "", errBadToken},
		{"Bearer a.!.c", "", errBadToken},
		{claims(`{`), "", errBadToken},
		{claims(`{"sub":""}`), "", errBadToken},
		{claims(`{"sub":["x"]}`), "", errBadToken},
		{claims(`{"sub":"system:serviceaccount:n:s"}`), "system:serviceaccount:n:s", nil},
	}
	for _, tt := range tests {
		if got, _, err := subjectOf(tt.authorization); got != tt.subject || !errors.Is(err, tt.err) {
			t.Errorf("%q: %q, %v", tt.authorization, got, err)
		}
	}
}

func FuzzSubject(f *testing.F) {
	f.Add("Bearer a.e30.c")
	f.Fuzz(func(t *testing.T, s string) {
		if got, _, err := subjectOf(s); (got == "") != (err != nil) {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	})
}

func TestTheTransportThatTheModeDoesNotAllowIsNotFound(t *testing.T) {
	tests := []struct {
		mode           string
		plain, secured bool // are let in
	}{
		{"disabled", true, false},
		{"permissive", true, true},
		{"strict", false, true},
	}
	for _, tt := range tests {
		flags, err := feature.NewFlagsConfigFromMap(map[string]string{"transport-encryption": tt.mode})
		if err != nil {
			t.Fatal(err)
		}
		g := &gate{features: func() feature.Flags { return flags }}
		for _, secure := range []bool{false, true} {
			var allows func(*event.Event) error
			allows, err := g.admit(secure)(context.Background(), &channel.Channel{Namespace: "n", Name: "c"}, "")
			want := tt.plain
			if secure {
				want = tt.secured
			}
			if (err == nil) != want || allows != nil {
				t.Errorf("%s, TLS %v: %v", tt.mode, secure, err)
			}
		}
	}
}

// pair makes a certificate for a name.
func pair(t *testing.T, name string) (crt, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}

func TestTheCertificateIsThatOfTheMoment(t *testing.T) {
	c := fake.NewClientBuilder().WithScheme(scheme.Scheme).Build()
	certs := &certificates{reader: c, secret: types.NamespacedName{Namespace: "n", Name: "s"}}
	name := func() string {
		t.Helper()
		got, err := certs.get(&tls.ClientHelloInfo{})
		if err != nil {
			return err.Error()
		}
		leaf, err := x509.ParseCertificate(got.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	if got := name(); !strings.Contains(got, "not found") {
		t.Errorf("without a Secret: %s", got)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s"}}
	put := func(crt, key []byte, write func(context.Context, *corev1.Secret) error) {
		t.Helper()
		s.Data = map[string][]byte{eventingtls.TLSCrt: crt, eventingtls.TLSKey: key}
		if err := write(context.Background(), s); err != nil {
			t.Fatal(err)
		}
	}
	create := func(ctx context.Context, s *corev1.Secret) error { return c.Create(ctx, s) }
	update := func(ctx context.Context, s *corev1.Secret) error { return c.Update(ctx, s, []client.UpdateOption{}...) }
	crt, key := pair(t, "one")
	put(crt, key, create)
	if got := name(); got != "one" {
		t.Errorf("got %s", got)
	}
	crt, key = pair(t, "two")
	put(crt, key, update)
	if got := name(); got != "two" {
		t.Errorf("after the renewal: %s", got)
	}
	put([]byte("x"), key, update)
	if got := name(); got != "two" {
		t.Errorf("after a bad renewal: %s", got)
	}
}

func TestTheSigningKeyIsChecked(t *testing.T) {
	file := func(content string) string {
		f := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(f, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	good := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	if k, err := readKey(file(good + "\n")); err != nil || len(k) != 32 {
		t.Errorf("%d bytes, %v", len(k), err)
	}
	for _, bad := range []string{"", "short", "!!!!"} {
		if _, err := readKey(file(bad)); err == nil || strings.Contains(err.Error(), "short") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
