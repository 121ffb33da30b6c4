package backendtest

import (
	"fmt"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var closeProperties = []property{
	{"a closed backend does nothing more", closedBackend},
	{"a second Close of the backend does not fail", backendClosedTwice},
	{"Close of a backend does not delete anything", closeKeepsAll},
	{"Close does not strand a Publish", closeAmidPublishing},
}

func closedBackend(f *fixture) {
	b := f.connect()
	log := f.log(f.connect(), false, "g")
	f.publish(b, log, "1")
	f.closeBackend(b)
	ctx := f.ctx()
	_, errLog := b.EnsureLog(ctx, backend.Log{Name: log})
	_, errLag := b.Lag(ctx, log, "g")
	_, errSub := b.Subscribe(ctx, log, "g", backend.Options{})
	for what, err := range map[string]error{
		"Publish": b.Publish(ctx, log, record("1")), "EnsureLog": errLog, "DeleteLog": b.DeleteLog(ctx, log),
		"EnsureGroup": b.EnsureGroup(ctx, log, backend.Group{Name: "g"}), "DeleteGroup": b.DeleteGroup(ctx, log, "g"),
		"Seal": b.Seal(ctx, log), "Lag": errLag, "Subscribe": errSub,
	} {
		wantError(f, what+" after Close", err, backend.ErrClosed)
	}
	_ = b.Room(log) // must not panic or block
	_ = b.Limits()
}

func backendClosedTwice(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	f.publish(b, log, "1")
	sub := f.subscribe(b, log, "g")
	d := f.receive(sub)
	ctx := f.ctx()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := b.Close(ctx); err != nil {
				f.Errorf("close backend: %v", err)
			}
		})
	}
	wg.Wait()
	f.closeBackend(b)
	_ = sub.Ack(d) // too late, and harmless
	f.closeSub(sub)
	if got := f.receive(f.subscribe(f.connect(), log, "g")); idOf(got) != "1" {
		f.Errorf("received %s, want 1", idOf(got))
	}
}

func closeKeepsAll(f *fixture) {
	b := f.connect()
	l := backend.Log{Name: newName()}
	i := f.ensureLog(b, l)
	f.ensureGroups(b, l.Name, "g")
	f.publish(b, l.Name, "1", "2")
	sealed := f.log(b, false, "g")
	f.must("Seal", b.Seal(f.ctx(), sealed))
	f.closeBackend(b)

	b = f.connect()
	f.wantLag(b, l.Name, "g", 2)
	if again := f.ensureLog(b, l); again != i {
		f.Errorf("incarnation %q, after reopening %q", i, again)
	}
	f.publish(b, l.Name, "3")
	wantError(f, "Publish to a sealed log", b.Publish(f.ctx(), sealed, record("1")), backend.ErrSealed)
	f.ensureLog(b, backend.Log{Name: sealed})
	wantError(f, "Publish to a sealed log", b.Publish(f.ctx(), sealed, record("1")), backend.ErrSealed)
	sub := f.subscribe(b, l.Name, "g")
	ds := f.receiveN(sub, 3)
	wantSet(f, "after reopening", idsOf(ds), []string{"1", "2", "3"})
}

// closeAmidPublishing: every Publish returns, and what it says is true.
func closeAmidPublishing(f *fixture) {
	const publishers = 16
	b, short := f.connect(), f.connect()
	log := f.log(b, false, "g")
	ctx := f.ctx()
	var mu sync.Mutex
	var accepted []string
	var wg sync.WaitGroup
	begun := make(chan struct{}, publishers)
	for _, id := range ids("p", publishers) {
		wg.Go(func() {
			for i := 0; ; i++ {
				r := record(fmt.Sprintf("%s-%d", id, i))
				err := short.Publish(ctx, log, r)
				if i == 0 {
					begun <- struct{}{}
				}
				if err != nil {
					wantError(f, "Publish amid Close", err, backend.ErrClosed)
					return
				}
				mu.Lock()
				accepted = append(accepted, string(r.Data))
				mu.Unlock()
			}
		})
	}
	for range publishers {
		<-begun
	}
	f.closeBackend(short)
	wg.Wait()
	// One that failed may have been stored as well.
	missing := make(map[string]bool)
	for _, id := range accepted {
		missing[id] = true
	}
	for sub := f.subscribe(b, log, "g"); len(missing) > 0; {
		d := f.receive(sub)
		delete(missing, idOf(d))
		f.ack(sub, d)
	}
}
