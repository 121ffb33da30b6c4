package backendtest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// watch is for how long the suite looks whether something happens that must
// not, where there is no fence. A sound backend passes whatever its value.
const watch = 200 * time.Millisecond

// fixture is what one property works with.
type fixture struct {
	testing.TB
	h Harness

	mu   sync.Mutex
	dead map[backend.Backend]bool
}

func newFixture(t testing.TB, h Harness) *fixture {
	return &fixture{TB: t, h: h, dead: make(map[backend.Backend]bool)}
}

func (f *fixture) needKill() {
	f.Helper()
	if f.h.Kill == nil {
		f.Skip("the harness lacks the capability Kill")
	}
}

func (f *fixture) needCut() {
	f.Helper()
	if f.h.Cut == nil || f.h.Mend == nil {
		f.Skip("the harness lacks the capabilities Cut and Mend")
	}
}

func (f *fixture) needRestart() {
	f.Helper()
	if f.h.Restart == nil {
		f.Skip("the harness lacks the capability Restart")
	}
}

func (f *fixture) needDedup() {
	f.Helper()
	if !f.h.Facts.Dedup {
		f.Skip("the harness lacks the capability Facts.Dedup")
	}
}

// ctx bounds what must happen.
func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(f.Context(), f.h.Facts.patience())
	f.Cleanup(cancel)
	return ctx
}

// connect is another process's view of the broker, closed with the test.
func (f *fixture) connect() backend.Backend {
	f.Helper()
	b := f.h.Connect(f.TB)
	f.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(f.Context()), f.h.Facts.patience())
		defer cancel()
		if err := b.Close(ctx); err != nil && !f.isDead(b) {
			f.Errorf("close backend: %v", err)
		}
	})
	return b
}

func (f *fixture) isDead(b backend.Backend) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead[b]
}

func (f *fixture) kill(b backend.Backend) {
	f.Helper()
	f.mu.Lock()
	f.dead[b] = true
	f.mu.Unlock()
	f.h.Kill(f.TB, b)
}

// cut breaks b's connection until the returned function is called, or the test ends.
func (f *fixture) cut(b backend.Backend) (mend func()) {
	f.Helper()
	f.h.Cut(f.TB, b)
	var once sync.Once
	mend = func() { once.Do(func() { f.h.Mend(f.TB, b) }) }
	f.Cleanup(mend)
	return mend
}

// newName is a log name that nothing else uses.
func newName() string { return "test-" + strings.ToLower(rand.Text()[:10]) + "/log" }

// log makes a log with the groups given.
func (f *fixture) log(b backend.Backend, ordered bool, groups ...string) string {
	f.Helper()
	name := newName()
	f.ensureLog(b, backend.Log{Name: name, Ordered: ordered})
	f.ensureGroups(b, name, groups...)
	return name
}

func (f *fixture) ensureLog(b backend.Backend, l backend.Log) backend.Incarnation {
	f.Helper()
	i, err := b.EnsureLog(f.ctx(), l)
	if err != nil {
		f.Fatalf("EnsureLog(%q): %v", l.Name, err)
	}
	if i == "" {
		f.Fatalf("EnsureLog(%q): empty incarnation", l.Name)
	}
	return i
}

func (f *fixture) ensureGroups(b backend.Backend, log string, groups ...string) {
	f.Helper()
	for _, g := range groups {
		if err := b.EnsureGroup(f.ctx(), log, backend.Group{Name: g}); err != nil {
			f.Fatalf("EnsureGroup(%q, %q): %v", log, g, err)
		}
	}
}

// record is one that carries its id as data, and perhaps a key.
func record(id string, key ...string) *backend.Record {
	return &backend.Record{
		Key:    strings.Join(key, ""),
		Header: []backend.Header{{Name: "ce-id", Value: id}},
		Data:   []byte(id),
	}
}

func idOf(d *backend.Delivery) string { return string(d.Data) }

// publish stores records that carry the ids given, in this order.
func (f *fixture) publish(b backend.Backend, log string, ids ...string) {
	f.Helper()
	for _, id := range ids {
		f.publishRecord(b, log, record(id))
	}
}

func (f *fixture) publishRecord(b backend.Backend, log string, r *backend.Record) {
	f.Helper()
	if err := b.Publish(f.ctx(), log, r); err != nil {
		f.Fatalf("Publish(%q): %v", log, err)
	}
}

func (f *fixture) subscribe(b backend.Backend, log, group string, o ...backend.Options) backend.Subscription {
	f.Helper()
	s, err := b.Subscribe(f.ctx(), log, group, append(o, backend.Options{})[0])
	if err != nil {
		f.Fatalf("Subscribe(%q, %q): %v", log, group, err)
	}
	f.Cleanup(func() {
		if err := s.Close(); err != nil && !f.isDead(b) {
			f.Errorf("close subscription: %v", err)
		}
	})
	return s
}

func (f *fixture) receive(s backend.Subscription) *backend.Delivery {
	f.Helper()
	d, err := s.Receive(f.ctx())
	if err != nil {
		f.Fatalf("Receive: %v", err)
	}
	return d
}

func (f *fixture) receiveN(s backend.Subscription, n int) []*backend.Delivery {
	f.Helper()
	ds := make([]*backend.Delivery, n)
	for i := range ds {
		ds[i] = f.receive(s)
	}
	return ds
}

// receiveAsync has n records received in a goroutine of its own, which ends
// with the test at the latest.
func (f *fixture) receiveAsync(s backend.Subscription, n int) <-chan *backend.Delivery {
	got := make(chan *backend.Delivery, n)
	ctx, done := f.ctx(), make(chan struct{})
	f.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for range n {
			d, err := s.Receive(ctx)
			if err != nil {
				if f.Context().Err() == nil {
					f.Errorf("Receive: %v", err)
				}
				return
			}
			got <- d
		}
	}()
	return got
}

// await takes n deliveries from what receiveAsync returned.
func (f *fixture) await(got <-chan *backend.Delivery, n int) []*backend.Delivery {
	f.Helper()
	ctx := f.ctx()
	var ds []*backend.Delivery
	for range n {
		select {
		case d := <-got:
			ds = append(ds, d)
		case <-ctx.Done():
			f.Fatalf("received %q, want %d records", idsOf(ds), n)
		}
	}
	return ds
}

func (f *fixture) ack(s backend.Subscription, ds ...*backend.Delivery) {
	f.Helper()
	for _, d := range ds {
		if err := s.Ack(d); err != nil {
			f.Fatalf("Ack(%q): %v", idOf(d), err)
		}
	}
}

func (f *fixture) closeSub(s backend.Subscription) {
	f.Helper()
	if err := s.Close(); err != nil {
		f.Fatalf("close subscription: %v", err)
	}
}

func (f *fixture) closeBackend(b backend.Backend) {
	f.Helper()
	if err := b.Close(f.ctx()); err != nil {
		f.Fatalf("close backend: %v", err)
	}
}

// fence publishes a marker, which must be what s receives next. It acks it.
func (f *fixture) fence(b backend.Backend, log string, s backend.Subscription) {
	f.Helper()
	marker := "marker-" + rand.Text()
	f.publish(b, log, marker)
	d := f.receive(s)
	if idOf(d) != marker {
		f.Fatalf("received %q, which must not come (the marker must be next)", idOf(d))
	}
	f.ack(s, d)
}

// nothing watches for a while that s receives nothing.
func (f *fixture) nothing(s backend.Subscription, why string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), watch)
	defer cancel()
	d, err := s.Receive(ctx)
	if d != nil {
		f.Fatalf("received %q: %s", idOf(d), why)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		f.Fatalf("Receive: %v, want the context's error", err)
	}
}

// eventually polls until check says nil.
func (f *fixture) eventually(what string, check func() error) {
	f.Helper()
	ctx := f.ctx()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Fatalf("%s: %v", what, err)
		}
	}
}
