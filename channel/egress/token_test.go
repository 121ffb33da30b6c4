package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
)

func TestARequestCarriesTheTokenOfTheOneItIsFor(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		var got atomic.Value
		target := tr.serve(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("Authorization")) })
		c := newClient(t, Config{Token: func(_ context.Context, identity, audience string) (string, error) {
			return identity + " for " + audience, nil
		}})
		wantDelivered(t, send(t, c, target))
		if h := got.Load(); h != "" {
			t.Errorf("a target without an audience got %q", h)
		}
		target.Audience, target.Identity = "aud", "ns/sa"
		wantDelivered(t, send(t, c, target))
		if h := got.Load(); h != "Bearer ns/sa for aud" {
			t.Errorf("got %q", h)
		}
	})
}

func TestWithoutATokenNothingIsSentAndItIsTriedAgain(t *testing.T) {
	t.Parallel()
	no := errors.New("no token")
	c := newClient(t, Config{Token: func(context.Context, string, string) (string, error) { return "", no }})
	r := send(t, c, &Target{URL: "http://127.0.0.1:1/", Audience: "a", Identity: "ns/sa"})
	if !errors.Is(r.Err, no) || r.Status != 0 || !Retryable(r) {
		t.Errorf("got %+v", r)
	}
}

func TestWhatIsTrustedIsLookedAtAnewOnceForgotten(t *testing.T) {
	t.Parallel()
	target := transport{secure: true}.serve(t, func(http.ResponseWriter, *http.Request) {})
	certs := target.CACerts
	target.CACerts = ""
	var trusted atomic.Bool
	c := newClient(t, Config{TLS: func(string) (*tls.Config, error) {
		pool := x509.NewCertPool()
		if trusted.Load() {
			pool.AppendCertsFromPEM([]byte(certs))
		}
		return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
	}})
	if r := send(t, c, target); r.Err == nil {
		t.Fatal("nobody trusts it, and it was sent to")
	}
	trusted.Store(true)
	c.Forget()
	wantDelivered(t, send(t, c, target))
}
