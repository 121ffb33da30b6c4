package serve

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"knative.dev/eventing/pkg/apis/feature"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/ingress"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

func TestTokensAreRememberedUntilTheyExpire(t *testing.T) {
	now := time.Unix(1000, 0)
	m := &tokens{now: func() time.Time { return now }}
	one := keyOf("aud", "Bearer one")
	if m.has(one) {
		t.Error("one that was never seen is known")
	}
	m.add(one, now.Add(time.Minute))
	if !m.has(one) || m.has(keyOf("other", "Bearer one")) || m.has(keyOf("aud", "Bearer two")) {
		t.Error("not exactly this one is known")
	}
	now = now.Add(time.Minute)
	if m.has(one) || len(m.known) != 0 || m.order.Len() != 0 {
		t.Error("it is known when it has expired")
	}
	m.add(one, now) // too late
	if m.has(one) {
		t.Error("one that has expired was added")
	}
}

func TestTheTokenThatWasUsedLongestAgoIsForgotten(t *testing.T) {
	var m tokens
	expires := time.Now().Add(time.Hour)
	key := func(i int) tokenKey { return keyOf("aud", fmt.Sprint(i)) }
	for i := range maxTokens {
		m.add(key(i), expires)
	}
	if !m.has(key(0)) {
		t.Fatal("the first is gone")
	}
	m.add(key(maxTokens), expires)
	if m.has(key(1)) || !m.has(key(0)) || !m.has(key(maxTokens)) || len(m.known) != maxTokens || m.order.Len() != maxTokens {
		t.Errorf("%d are known; not the one that was used longest ago is gone", len(m.known))
	}
}

// A token is verified once; who it is of may be refused at any time.
func TestATokenIsVerifiedOnce(t *testing.T) {
	flags, err := feature.NewFlagsConfigFromMap(map[string]string{
		"authentication-oidc": "enabled", "default-authorization-mode": "allow-same-namespace",
	})
	if err != nil {
		t.Fatal(err)
	}
	object := &v1alpha1.SidestepChannel{}
	object.Namespace, object.Name = "n", "c"
	verified := 0
	var broken error
	g := &gate{
		features: func() feature.Flags { return flags }, logger: slog.New(slog.DiscardHandler),
		object: func(string) *v1alpha1.SidestepChannel { return object },
	}
	g.verify = func(context.Context, feature.Flags, string, string, string) error {
		verified++
		return broken
	}
	token := func(subject string, expires time.Time) string {
		claims := fmt.Sprintf(`{"sub":%q,"exp":%d}`, subject, expires.Unix())
		return "Bearer h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s"
	}
	admit := func(authorization string) error {
		_, err := g.admit(false)(t.Context(), &channel.Channel{Namespace: "n", Name: "c"}, authorization)
		return err
	}
	ours := token("system:serviceaccount:n:s", time.Now().Add(time.Hour))
	for range 3 {
		if err := admit(ours); err != nil {
			t.Fatal(err)
		}
	}
	if verified != 1 {
		t.Errorf("verified %d times, want once", verified)
	}
	broken = errors.New("the API server is away")
	if err := admit(ours); err != nil {
		t.Errorf("one that was verified before: %v", err)
	}
	if admit(ours+"x") == nil {
		t.Error("one that cannot be verified was let in")
	}
	broken = nil
	theirs := token("system:serviceaccount:other:s", time.Now().Add(time.Hour))
	for range 2 {
		want := ingress.Refuse(http.StatusForbidden, "system:serviceaccount:other:s may not send to the channel")
		if err := admit(theirs); !errors.Is(err, want) {
			t.Errorf("one of another namespace: %v", err)
		}
	}
	verified = 0
	late := token("system:serviceaccount:n:s", time.Now().Add(-time.Second))
	for range 2 {
		if err := admit(late); err != nil { // the verifier's to refuse
			t.Error(err)
		}
	}
	if verified != 2 {
		t.Errorf("one that has expired was verified %d times, want each time", verified)
	}
}
