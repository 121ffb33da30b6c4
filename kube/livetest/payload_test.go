package livetest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// large is more than travels in a record.
var large = bytes.Repeat([]byte("0123456789abcdef"), 20<<10)

// payloads counts those of the test's namespace in a store that is a folder.
func (w *world) payloads(dir string) int {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "payload", w.namespace, "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	return len(files)
}

// TestTheStoreOfPayloadsIsChangedWhileItIsUsed: what is in the former one is read still.
func TestTheStoreOfPayloadsIsChangedWhileItIsUsed(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	ds := []*running{w.dispatcher("d-1", "127.0.0.1"), w.dispatcher("d-2", "127.0.0.2")}
	w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", patient(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	l.setFail(true)
	if status := ds[0].postData("c", "before", large); status != 202 {
		t.Fatalf("answered %d", status)
	}
	if n := w.payloads(w.servers.claims); n != 1 {
		t.Errorf("%d payloads are in the store, want 1", n)
	}
	next := t.TempDir()
	w.configure(map[string]string{"claim-check": "store: file://" + next})
	ids := []string{"before"}
	for i, d := range ds {
		await(t, "payloads to go to the new store", func() error {
			was, id := w.payloads(next), fmt.Sprintf("after-%d-%d", i, len(ids))
			if status := d.postData("c", id, large); status != 202 {
				return fmt.Errorf("answered %d", status)
			}
			ids = append(ids, id)
			if w.payloads(next) == was {
				return fmt.Errorf("%d are there", was)
			}
			return nil
		})
	}
	if got := w.state().ClaimStores; len(got) != 2 || got[0] != "file://"+next || got[1] != "file://"+w.servers.claims {
		t.Errorf("payloads may be in %v", got)
	}
	// One that starts by then reads both.
	third := w.dispatcher("d-3", "127.0.0.3")
	if status := third.postData("c", "third", large); status != 202 {
		t.Errorf("answered %d", status)
	}
	l.setFail(false)
	w.delivered(l, append(ids, "third"))
	for _, id := range ids {
		if !bytes.Equal(l.dataOf(id), large) {
			t.Errorf("event %s has other data than it was sent with", id)
		}
	}
	w.configure(map[string]string{"claim-check": "store: 's3://'"})
	await(t, "a store that is none to be said", w.condition("c", v1alpha1.ConditionConfigured, corev1.ConditionFalse, "ConfigRefused"))
	if status := third.postData("c", "last", large); status != 202 {
		t.Errorf("answered %d", status)
	}
	w.delivered(l, []string{"last"})
}

// TestPayloadsOfASingleSubscriptionAreDeletedEarly, and those of two are not: nor is one
// made before every dispatcher knows.
func TestPayloadsOfASingleSubscriptionAreDeletedEarly(t *testing.T) {
	w := begin(t)
	l, second := newLedger(t), newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	early := func(want v1alpha1.EarlyDeletion) func() error {
		return func() error {
			if got := w.get("c").Status.EarlyDeletion; got != want {
				return fmt.Errorf("it is %q", got)
			}
			return nil
		}
	}
	w.subscribe("c", subscriber(t, "a", l.url))
	await(t, "early deletion to be allowed", early(v1alpha1.EarlyAllowed))
	if status := d.postData("c", "1", large); status != 202 {
		t.Fatalf("answered %d", status)
	}
	w.delivered(l, []string{"1"})
	await(t, "its payload to be deleted", func() error {
		if n := w.payloads(w.servers.claims); n > 0 {
			return fmt.Errorf("%d are there", n)
		}
		return nil
	})

	w.pod("mute", "127.0.0.9") // nobody answers there
	w.subscribe("c", subscriber(t, "a", l.url), subscriber(t, "b", second.url))
	await(t, "it to be taken back", early(v1alpha1.EarlyEnding))
	await(t, "the mute one to be named", w.subscribed("c", "b", corev1.ConditionUnknown, "dispatcher mute"))
	for _, p := range w.get("c").Status.Positions {
		if p.Subscriber.UID == types.UID("b") && p.State != v1alpha1.Pending {
			t.Errorf("its group was made: %s", p.State)
		}
	}
	w.gone("mute")
	await(t, "the second subscription", w.subscribed("c", "b", corev1.ConditionTrue, ""))
	if err := early("")(); err != nil {
		t.Error(err)
	}
	if status := d.postData("c", "2", large); status != 202 {
		t.Fatalf("answered %d", status)
	}
	w.delivered(l, []string{"2"})
	w.delivered(second, []string{"2"})
	if n := w.payloads(w.servers.claims); n != 1 {
		t.Errorf("%d payloads are in the store, want 1", n)
	}
}

func TestLimitsAreChangedWithoutARestart(t *testing.T) {
	w := begin(t)
	l := newLedger(t)
	d := w.dispatcher("d-1", "127.0.0.1")
	w.make("c", v1alpha1.SidestepChannelSpec{})
	w.subscribe("c", subscriber(t, "a", l.url))
	await(t, "the subscription", w.subscribed("c", "a", corev1.ConditionTrue, ""))
	post := func(id string, status int) func() error {
		return func() error {
			if got := d.postData("c", id, large); got != status {
				return fmt.Errorf("answered %d", got)
			}
			return nil
		}
	}
	w.configure(map[string]string{"claim-check": "{threshold: 1Ki, maxEventBytes: 100Ki}"})
	await(t, "large events to be refused", post("refused", http.StatusRequestEntityTooLarge))
	w.configure(map[string]string{"claim-check": "threshold: 512Ki"})
	await(t, "them to be taken", post("taken", http.StatusAccepted))
	await(t, "them to travel in records", func() error {
		was := w.payloads(w.servers.claims)
		if err := post("in-a-record", http.StatusAccepted)(); err != nil {
			return err
		}
		if w.payloads(w.servers.claims) > was {
			return errors.New("it was stored elsewhere")
		}
		return nil
	})
	w.delivered(l, []string{"taken", "in-a-record"})
}
