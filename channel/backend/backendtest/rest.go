package backendtest

import (
	"errors"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Of subscriptions that are a backend.Rester.
var restProperties = []property{
	{"a member at rest is woken for each record", restingReceives},
	{"a member at rest is woken for what comes back", restingTakesOver},
	{"a member at rest is woken when its subscription ends", restingEnds},
}

// rester skips the property if s has nothing to offer.
func (f *fixture) rester(s backend.Subscription) backend.Rester {
	f.Helper()
	r, ok := s.(backend.Rester)
	if !ok {
		f.Skip("the subscription is no backend.Rester")
	}
	return r
}

// rest has s rest, and returns what is closed when it is woken; nil if it does not
// rest now.
func (f *fixture) rest(s backend.Rester) <-chan struct{} {
	woken := make(chan struct{})
	if !s.Rest(func() { close(woken) }) {
		return nil
	}
	return woken
}

// mustRest skips the property if s would rather not rest, as it may.
func (f *fixture) mustRest(s backend.Rester) <-chan struct{} {
	f.Helper()
	woken := f.rest(s)
	if woken == nil {
		f.Skip("the subscription does not rest")
	}
	return woken
}

func (f *fixture) wantWoken(woken <-chan struct{}) {
	f.Helper()
	select {
	case <-woken:
	case <-f.ctx().Done():
		f.Fatalf("nobody woke the member")
	}
}

// restUntil returns when s has something to receive, without a call of Receive.
func (f *fixture) restUntil(s backend.Rester) {
	f.Helper()
	for woken := f.rest(s); woken != nil; woken = f.rest(s) {
		f.wantWoken(woken)
	}
}

// restingReceives: whatever the moment in which a record comes, it is received by
// one who calls Receive only when there is something to be had.
func restingReceives(f *fixture) {
	const n = 100
	b := f.connect()
	log := f.log(b, false, "g")
	sub := f.rester(f.subscribe(b, log, "g", backend.Options{Window: 4}))
	ctx, want := f.ctx(), ids("r", n)
	var publishing sync.WaitGroup
	defer publishing.Wait()
	publishing.Go(func() {
		for _, id := range want {
			if err := b.Publish(ctx, log, record(id)); err != nil {
				f.Errorf("Publish: %v", err)
				return
			}
		}
	})
	var got []string
	for len(got) < n {
		f.restUntil(sub)
		d := f.receive(sub)
		got = append(got, idOf(d))
		f.ack(sub, d)
	}
	wantSet(f, "received", got, want)
	f.wantLag(b, log, "g", 0)
}

func restingTakesOver(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	holder := f.subscribe(b, log, "g")
	f.publish(b, log, "1")
	held := f.receive(holder)
	sub := f.rester(f.subscribe(f.connect(), log, "g"))
	woken := f.mustRest(sub)
	f.closeSub(holder)
	f.wantWoken(woken)
	d := f.receive(sub)
	if idOf(d) != idOf(held) {
		f.Errorf("received %q, want %q", idOf(d), idOf(held))
	}
	f.ack(sub, d)
}

func restingEnds(f *fixture) {
	b, short := f.connect(), f.connect()
	log := f.log(b, false, "deleted", "closed", "orphan")
	deleted := f.rester(f.subscribe(b, log, "deleted"))
	closed, orphan := f.rester(f.subscribe(b, log, "closed")), f.rester(f.subscribe(short, log, "orphan"))
	var woken []<-chan struct{}
	for _, sub := range []backend.Rester{deleted, closed, orphan} {
		woken = append(woken, f.mustRest(sub))
	}
	if err := b.DeleteGroup(f.ctx(), log, "deleted"); err != nil {
		f.Errorf("DeleteGroup: %v", err)
	}
	f.closeSub(closed)
	f.closeBackend(short)
	for _, w := range woken {
		f.wantWoken(w)
	}
	for _, end := range []struct {
		sub  backend.Rester
		want error
	}{{deleted, backend.ErrNotFound}, {closed, backend.ErrClosed}, {orphan, backend.ErrClosed}} {
		if _, err := end.sub.Receive(f.ctx()); !errors.Is(err, end.want) {
			f.Errorf("Receive once it was woken: %v, want %v", err, end.want)
		}
	}
}
