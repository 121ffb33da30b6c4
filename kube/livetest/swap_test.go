package livetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	brokers "github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/watch"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// natsData is a config-sidestep whose backend is a NATS server that has this URL.
func natsData(url string, more ...string) map[string]string {
	data := map[string]string{"backend": "nats", "nats": "url: " + url}
	for i := 0; i < len(more); i += 2 {
		data[more[i]] = more[i+1]
	}
	return data
}

func natsID(url string) string {
	return brokers.Spec{Kind: manifest.BackendNATS, NATS: manifest.NATS{URL: url}}.ID()
}

// configure edits config-sidestep.
func (w *world) configure(data map[string]string) {
	w.t.Helper()
	w.configMap(watch.ConfigName, data)
}

// at fails until a channel's log is on a backend, and nowhere else.
func (w *world) at(channel, id string) func() error {
	return func() error {
		c := w.get(channel)
		p := c.Status.Place
		if p == nil || p.Home != id || p.Next != "" || len(p.Former) > 0 {
			return fmt.Errorf("it is at %+v: %v", p, c.Conditions().GetCondition(v1alpha1.ConditionMoved))
		}
		if got := c.Conditions().GetCondition(v1alpha1.ConditionMoved); got != nil {
			return fmt.Errorf("it says that it moves: %+v", got)
		}
		return nil
	}
}

func (w *world) state() *broker.State {
	w.t.Helper()
	cm := &corev1.ConfigMap{}
	if err := w.client.Get(w.t.Context(), types.NamespacedName{Namespace: w.namespace, Name: broker.StateName}, cm); err != nil {
		w.t.Fatal(err)
	}
	s, err := broker.ReadState(cm)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// traffic posts to channels, by turns of dispatchers, until stop, which returns the ids
// that were accepted.
func (w *world) traffic(channel string, ds ...*running) (stop func() []string) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	accepted := make([][]string, len(ds))
	for i, d := range ds {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%s-%d", d.name, n)
				if status, err := d.send(channel, id, []byte("x")); err == nil && status == http.StatusAccepted {
					accepted[i] = append(accepted[i], id)
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return sync.OnceValue(func() (all []string) {
		cancel()
		wg.Wait()
		for _, ids := range accepted {
			all = append(all, ids...)
		}
		return all
	})
}

func (w *world) delivered(l *ledger, ids []string) {
	w.t.Helper()
	await(w.t, "all that was accepted to be delivered", func() error {
		for _, id := range ids {
			if err := l.has(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestTheBackendIsSwappedByEditingTheConfigMap under load, to and fro, with two
// dispatchers and flows of two channels.
func TestTheBackendIsSwappedByEditingTheConfigMap(t *testing.T) {
	w := begin(t)
	l, first := newLedger(t), newLedger(t)
	ds := []*running{w.dispatcher("d-1", "127.0.0.1"), w.dispatcher("d-2", "127.0.0.2")}
	for _, ordering := range []v1alpha1.Ordering{v1alpha1.Unordered, v1alpha1.PerKey} {
		name := strings.ToLower(string(ordering))
		w.make(name, v1alpha1.SidestepChannelSpec{Ordering: ordering})
		w.subscribe(name, subscriber(t, name+"-a", l.url), subscriber(t, name+"-b", first.url))
		for _, s := range []string{"-a", "-b"} {
			await(t, "the subscription", w.subscribed(name, name+s, corev1.ConditionTrue, ""))
		}
	}
	for _, ordering := range []string{"unordered", "perkey"} {
		stop := w.traffic(ordering, ds...)
		defer stop()
		for _, id := range []string{natsID("nats://a:1"), natsID("nats://b:1"), "embedded", natsID("nats://a:1")} {
			switch id {
			case "embedded":
				w.configure(map[string]string{"backend": "embedded"})
			case natsID("nats://b:1"):
				w.configure(natsData("nats://b:1"))
			default:
				w.configure(natsData("nats://a:1"))
			}
			await(t, "the log to be on "+id, w.at(ordering, id))
		}
		ids := stop()
		if len(ids) < 100 {
			t.Errorf("%s: only %d events were accepted", ordering, len(ids))
		}
		w.delivered(l, ids)
		w.delivered(first, ids)
		for _, l := range []*ledger{l, first} {
			if n := l.again(); n > 0 {
				t.Errorf("%s: %d events were delivered again, and nothing had died", ordering, n)
			}
		}
		l.forget()
		first.forget()
	}
	if c := w.get("perkey"); c.Status.Backend != "nats" || !c.Conditions().IsHappy() {
		t.Errorf("it is on %q, %+v", c.Status.Backend, c.Conditions().GetCondition(v1alpha1.ConditionReady))
	}
}

// TestABackendThatCannotBeUsedIsSaid in conditions and an event, and nothing moves.
func TestABackendThatCannotBeUsedIsSaid(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", subscriber(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	id := natsID("nats://a:1")
	w.servers.setDown(id, errors.New("nobody is at home"))
	w.configure(natsData("nats://a:1"))
	await(t, "the reason to be in a condition", func() error {
		got := w.get("c").Conditions().GetCondition(v1alpha1.ConditionConfigured)
		if got == nil || got.Status != corev1.ConditionFalse || !strings.Contains(got.Message, "nobody is at home") {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
	await(t, "the reason to be in an event", func() error {
		var all corev1.EventList
		if err := w.client.List(t.Context(), &all, client.InNamespace(w.namespace)); err != nil {
			return err
		}
		for _, e := range all.Items {
			if e.InvolvedObject.Name == watch.ConfigName && strings.Contains(e.Message, "nobody is at home") {
				return nil
			}
		}
		return fmt.Errorf("among %d events there is none", len(all.Items))
	})
	if err := w.at("c", "embedded")(); err != nil {
		t.Error(err)
	}
	if status := d.post("c", "meanwhile"); status != 202 {
		t.Errorf("answered %d", status)
	}
	await(t, "the event", func() error { return l.has("meanwhile") })

	// A controller that takes over, and a dispatcher that starts, go by what is in effect.
	w.stop()
	w.controller()
	second := w.dispatcher("d-2", "127.0.0.2")
	w.make("new", v1alpha1.SidestepChannelSpec{})
	await(t, "a new channel", w.condition("new", v1alpha1.ConditionReady, corev1.ConditionTrue, ""))
	if err := w.at("new", "embedded")(); err != nil {
		t.Error(err)
	}
	if status := second.post("c", "second"); status != 202 {
		t.Errorf("answered %d", status)
	}
	w.servers.setDown(id, nil)
	await(t, "it to be used after all", w.at("c", id))
	await(t, "the reason to be gone", func() error {
		if got := w.get("c").Conditions().GetCondition(v1alpha1.ConditionConfigured); got != nil {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
	w.delivered(l, []string{"meanwhile", "second"})
}

// TestNothingMovesBeforeEveryDispatcherCanFollow: one of them cannot reach the new
// backend, whatever the controller can.
func TestNothingMovesBeforeEveryDispatcherCanFollow(t *testing.T) {
	w := begin(t)
	w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	await(t, "the channel", w.condition("c", v1alpha1.ConditionReady, corev1.ConditionTrue, ""))
	w.pod("mute", "127.0.0.9") // nobody answers there
	w.configure(natsData("nats://a:1"))
	await(t, "the mute one to be named", func() error {
		got := w.get("c").Conditions().GetCondition(v1alpha1.ConditionMoved)
		if got == nil || !strings.Contains(got.Message, "dispatcher mute does not answer") {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
	if p := w.get("c").Status.Place; p.Home != "embedded" || p.Next != "" {
		t.Errorf("it is at %+v", p)
	}
	w.gone("mute")
	await(t, "the move", w.at("c", natsID("nats://a:1")))
}

func TestANamespaceHasABackendOfItsOwn(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	id := natsID("nats://a:1")
	w.configure(map[string]string{"nats": "url: nats://a:1", "namespaces": w.namespace + ": {backend: nats}"})
	await(t, "it to be in effect", func() error {
		if got := w.state().Homes; got.Default != "embedded" || got.Of(w.namespace) != id {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
	w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", subscriber(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	if err := w.at("c", id)(); err != nil {
		t.Error(err)
	}
	if status := d.post("c", "1"); status != 202 {
		t.Errorf("answered %d", status)
	}
	await(t, "the event", func() error { return l.has("1") })
	w.configure(map[string]string{"nats": "url: nats://a:1"})
	await(t, "it to be where all are", w.at("c", "embedded"))
}

// TestAControllerThatTakesOverInAMoveGoesOn from the place that is written down.
func TestAControllerThatTakesOverInAMoveGoesOn(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", patient(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	l.setFail(true)
	if status := d.post("c", "in-the-old-log"); status != 202 {
		t.Fatalf("answered %d", status)
	}
	id := natsID("nats://a:1")
	w.configure(natsData("nats://a:1"))
	await(t, "the log to have two places", func() error {
		if p := w.get("c").Status.Place; p.Home != id || len(p.Former) != 1 {
			return fmt.Errorf("it is at %+v", p)
		}
		return nil
	})
	w.stop()
	w.controller()
	// Wanted elsewhere by now; and what is in the old log is delivered all the same.
	if status := d.post("c", "in-the-new-log"); status != 202 {
		t.Fatalf("answered %d", status)
	}
	l.setFail(false)
	await(t, "the former place to be left", w.at("c", id))
	w.delivered(l, []string{"in-the-old-log", "in-the-new-log"})
}
