package watch

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"

	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/internal/rollcall"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// fakePlaces are backends of which some are open.
type fakePlaces struct {
	open map[string]bool
	at   map[string]swapbackend.Place
}

func (f *fakePlaces) Set(log string, p swapbackend.Place) error {
	for _, id := range p.All() {
		if !f.open[id] {
			return errors.New("there is no backend " + id)
		}
	}
	f.at[log] = p
	return nil
}

func (f *fakePlaces) Leave(log string) { delete(f.at, log) }

// applier keeps the last table.
type applier struct{ names []string }

func (a *applier) Apply(t *channel.Table) (uint64, error) {
	a.names = nil
	for _, c := range t.Channels {
		a.names = append(a.names, c.Name)
	}
	slices.Sort(a.names)
	return 1, nil
}

func (*applier) Epoch() uint64          { return 1 }
func (*applier) Observed() uint64       { return 1 }
func (*applier) Receiving(string) error { return nil }

func TestAChannelIsInTheTableOnceItsBackendIsOpen(t *testing.T) {
	at := func(name, home string) *v1alpha1.SidestepChannel {
		c := made(name, eventingduckv1.SubscriberSpec{UID: "1", SubscriberURI: parsed(t, "http://x")})
		c.Status.Positions[0].Subscriber.UID += c.UID
		c.Spec.Subscribers[0].UID += c.UID
		c.Status.Place = &v1alpha1.Place{Home: home}
		return c
	}
	places := &fakePlaces{open: map[string]bool{"x": true}, at: map[string]swapbackend.Place{}}
	a := new(applier)
	w := &Watcher{
		Applier: a, Roll: rollcall.NewRoll(a), Places: places, Logger: slog.New(slog.DiscardHandler),
		known:  map[string]*v1alpha1.SidestepChannel{"n/a": at("a", "x"), "n/b": at("b", "y")},
		placed: map[string]bool{}, problems: map[string]string{},
	}
	want := func(names ...string) {
		t.Helper()
		if err := w.apply(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.names, names) {
			t.Errorf("the table has %v, want %v", a.names, names)
		}
	}
	want("a")
	places.open["y"] = true
	want("a", "b")
	// One that moves to where we cannot go stays, where it was.
	w.known["n/a"] = at("a", "z")
	want("a", "b")
	if places.at["n/a"].Home != "x" {
		t.Errorf("it is at %+v", places.at["n/a"])
	}
	// One that is gone is left.
	delete(w.known, "n/b")
	want("a")
	if got := slices.Collect(maps.Keys(places.at)); !slices.Equal(got, []string{"n/a"}) {
		t.Errorf("places are known of %v", got)
	}
}
