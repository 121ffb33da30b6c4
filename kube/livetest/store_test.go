package livetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/sidestep-dev/sidestep/internal/store"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/reconcile"
	"github.com/sidestep-dev/sidestep/kube/secrets"
)

// TestTheStoreThatComesWithSidestepHasLogsAndPayloads, and is reached as any other NATS
// server as well, by what a Secret has: then it is the same log, and nothing moves.
func TestTheStoreThatComesWithSidestepHasLogsAndPayloads(t *testing.T) {
	const password = "correct horse battery"
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	clients := "127.0.0.1:" + freePort(t)
	w := beginWith(t, func(w *world) reconcile.Servers {
		w.inBackground(func(ctx context.Context) error {
			return store.Run(ctx, store.Config{
				Dir: t.TempDir(), Name: "s-0", Listen: clients, Cluster: "127.0.0.1:" + freePort(t), User: broker.User, PasswordFile: file,
			})
		})
		return &broker.Servers{
			Store:   broker.Store{URL: "nats://" + clients, PasswordFile: file, Replicas: 1},
			Secrets: &secrets.Mirror{Reader: w.client, Namespace: w.namespace, Dir: t.TempDir(), Logger: w.logger},
			Logger:  w.logger,
		}
	})
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", patient(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	if got := w.state().ClaimStores; !slices.Equal(got, []string{"nats://sidestep-claims"}) {
		t.Errorf("payloads are in %v", got)
	}
	l.setFail(true)
	for id, data := range map[string][]byte{"small": []byte("x"), "large": large} {
		if status := d.postData("c", id, data); status != 202 {
			t.Fatalf("%s: answered %d", id, status)
		}
	}
	secret := &corev1.Secret{Data: map[string][]byte{"password": []byte("another")}}
	secret.Namespace, secret.Name = w.namespace, "login"
	if err := w.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	w.configure(map[string]string{"backend": "nats", "nats": fmt.Sprintf("{url: 'nats://%s', user: %s, secret: login}", clients, broker.User)})
	await(t, "the wrong password to be said", w.condition("c", v1alpha1.ConditionConfigured, corev1.ConditionFalse, "ConfigRefused"))
	secret.Data["password"] = []byte(password)
	if err := w.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	await(t, "the log to be there", w.at("c", natsID("nats://"+clients)))
	l.setFail(false)
	w.delivered(l, []string{"small", "large"})
	if got := l.dataOf("large"); len(got) != len(large) {
		t.Errorf("large came with %d bytes", len(got))
	}
}
