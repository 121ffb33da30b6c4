package claimcheck_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
)

func TestAClaimIsRenewedWhenLessThanHalfOfItsTimeRemains(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	data := []byte("x")
	c := f.put(t, data)
	carry := func() claimcheck.Claim {
		t.Helper()
		next, err := f.Carry(t.Context(), c, "team-a/next")
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	f.clock.add(ttl / 2)
	if next := carry(); next.Expires != c.Expires || next.Owner != "team-a/next" || f.store.puts != 1 {
		t.Errorf("with half of its time: got %+v after %d puts", next, f.store.puts)
	}
	f.clock.add(2 * time.Second)
	next := carry()
	if left := next.Expires.Sub(f.clock.now()); left < ttl || next.Object != c.Object || f.store.puts != 2 {
		t.Errorf("with less: got %+v after %d puts", next, f.store.puts)
	}
	// It lives that long, without any record.
	f.clock.add(ttl)
	f.sweep(t)
	wantPayload(t, f.Checkroom, next, data)
	f.clock.add(slack + 2*time.Second)
	f.sweep(t)
	if left := f.objects(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestTwoProcessesThatRenewDoNotUndoEachOther(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("x"))
	f.clock.add(ttl - time.Minute)
	short, err := claimcheck.New(claimcheck.Config{
		Stores: map[string]claimcheck.Store{"main": f.store}, Current: "main", Keys: keys(t), TTL: time.Hour, Now: f.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	long, err := f.Carry(t.Context(), c, owner)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := short.Carry(t.Context(), c, owner); err != nil { // later, and for less
		t.Fatal(err)
	}
	f.clock.add(ttl - time.Minute)
	f.sweep(t)
	wantPayload(t, f.Checkroom, long, []byte("x"))
}

func TestAClaimIsNotCarriedIntoAnotherNamespace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("x"))
	if got, err := f.Carry(t.Context(), c, "team-b/pics"); !errors.Is(err, claimcheck.ErrOwner) {
		t.Errorf("got %+v, %v, want ErrOwner", got, err)
	}
	if got, err := f.Carry(t.Context(), c, "team-a"); err == nil {
		t.Errorf("got %+v, want an error", got)
	}
}

func TestDiscardDeletesAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("x"))
	f.clock.add(ttl - time.Hour)
	c, err := f.Carry(t.Context(), c, owner)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if done, err := f.Discard(t.Context(), c); !done || err != nil {
			t.Errorf("got %v, %v", done, err)
		}
	}
	if left := f.objects(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAValidLinkProtectsItsPayload(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.put(t, []byte("x"))
	path := s.link(t, c, 3*ttl) // longer than the claim lives
	for range 3 {
		if done, err := s.Discard(t.Context(), c); done || err != nil {
			t.Fatalf("discard: got %v, %v, want it kept", done, err)
		}
		s.sweep(t)
		s.want(t, 200, "GET", path)
		s.clock.add(ttl)
	}
	s.clock.add(slack + time.Hour)
	s.want(t, 403, "GET", path)
	if swept := s.sweep(t); swept.Payloads != 1 || swept.Marks != 1 || len(s.objects(t)) != 0 {
		t.Errorf("after its time: swept %+v, left %v", swept, s.objects(t))
	}
}

func TestTheSweeperTakesOnlyWhatNobodyNeeds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	orphan, renewed := f.put(t, []byte("orphan")), f.put(t, []byte("renewed"))
	stuck := f.putFor(t, "team-b/pics", []byte("stuck"))
	// What somebody else keeps there, under names that look almost like ours.
	foreign := []string{"other/file", "payload/x", orphan.Object + "0x", "renewed/x.1", "linked/" + strings.Repeat("0", 20) + "/y.1"}
	for _, name := range foreign {
		if err := f.store.Put(t.Context(), name, strings.NewReader("")); err != nil {
			t.Fatal(err)
		}
	}
	if swept := f.sweep(t); swept != (claimcheck.Swept{}) {
		t.Errorf("before their time: swept %+v", swept)
	}
	f.clock.add(ttl)
	renewed, err := f.Carry(t.Context(), renewed, owner)
	if err != nil {
		t.Fatal(err)
	}
	f.clock.add(slack) // a clock that is late still sees them
	f.sweep(t)
	wantPayload(t, f.Checkroom, orphan, []byte("orphan"))
	f.clock.add(2 * time.Second)
	fresh := f.put(t, []byte("fresh"))
	swept := f.sweep(t, stuck)
	if swept.Payloads != 1 || swept.Bytes != int64(len("orphan"))+32 || f.seen.sweptN != 1 {
		t.Errorf("swept %+v", swept)
	}
	for _, c := range []claimcheck.Claim{stuck, renewed, fresh} {
		if _, err := readAll(t, f.Checkroom, c); err != nil {
			t.Error(err)
		}
	}
	if _, err := readAll(t, f.Checkroom, orphan); !errors.Is(err, claimcheck.ErrNotFound) {
		t.Errorf("orphan: got %v", err)
	}
	for _, name := range foreign {
		if !slices.Contains(f.objects(t), name) {
			t.Errorf("swept what is not ours: %s", name)
		}
	}
}

func TestNothingIsSweptWhenTheOldestRecordIsNotKnown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put(t, []byte("x"))
	f.clock.add(2 * ttl)
	errLog := errors.New("log unreadable")
	_, err := f.Sweep(t.Context(), func(context.Context, string) (time.Time, error) { return time.Time{}, errLog })
	if !errors.Is(err, errLog) || len(f.objects(t)) != 1 || f.seen.failed[claimcheck.OpSweep] != 1 {
		t.Errorf("got %v, left %v", err, f.objects(t))
	}
}

// What it was renewed for is over, and the record that it was renewed for is stuck.
func TestAStuckRecordKeepsItsPayloadHoweverLong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("x"))
	f.clock.add(ttl - time.Minute)
	c, err := f.Carry(t.Context(), c, "team-a/next")
	if err != nil {
		t.Fatal(err)
	}
	later := f.putFor(t, "team-a/other", []byte("expires after that record was stored"))
	for range 4 {
		f.clock.add(ttl)
		f.sweep(t, c)
		wantPayload(t, f.Checkroom, c, []byte("x"))
		wantPayload(t, f.Checkroom, later, []byte("expires after that record was stored"))
	}
	if swept := f.sweep(t); swept.Payloads != 2 || swept.Marks != 1 || len(f.objects(t)) != 0 {
		t.Errorf("once it is settled: swept %+v, left %v", swept, f.objects(t))
	}
}

func TestANamespaceThatIsNotKnownDoesNotKeepTheOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	known, unknown := f.put(t, []byte("x")), f.putFor(t, "team-b/pics", []byte("y"))
	f.clock.add(2 * ttl)
	errLog := errors.New("log unreadable")
	_, err := f.Sweep(t.Context(), func(_ context.Context, namespace string) (time.Time, error) {
		if namespace == "team-b" {
			return time.Time{}, errLog
		}
		return time.Time{}, nil
	})
	if left := f.objects(t); !errors.Is(err, errLog) || len(left) != 1 || left[0] != unknown.Object {
		t.Errorf("got %v, left %v; of these only %s is not needed", err, left, known.Object)
	}
}

// The engine moves a record while the logs are asked: the sweeper sees neither the
// old one nor the new one.
func TestAClaimCarriedForwardDuringASweepSurvives(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("x"))
	f.clock.add(2 * ttl) // long stuck
	moving := func(context.Context, string) (time.Time, error) {
		if _, err := f.Carry(t.Context(), c, "team-a/next"); err != nil {
			t.Error(err)
		}
		return time.Time{}, nil
	}
	if _, err := f.Sweep(t.Context(), moving); err != nil {
		t.Fatal(err)
	}
	wantPayload(t, f.Checkroom, c, []byte("x"))
}

func TestManyPayloadsAreSweptInParts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const n = 10_000 // more than one part
	var live []claimcheck.Claim
	for i := range n {
		c := f.putFor(t, fmt.Sprintf("ns-%d/c", i%10), nil)
		if i%10 == 0 {
			live = append(live, c)
		}
	}
	f.clock.add(2 * ttl)
	if swept := f.sweep(t, live...); swept.Payloads != n-len(live) {
		t.Errorf("swept %d, want %d", swept.Payloads, n-len(live))
	}
	for _, c := range live {
		if _, err := readAll(t, f.Checkroom, c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSweepersAtOnceDoNoHarm(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 100 {
		f.put(t, []byte("x"))
	}
	f.clock.add(2 * ttl)
	keep := f.put(t, []byte("keep"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := f.Sweep(t.Context(), refer()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := f.objects(t); len(left) != 1 || left[0] != keep.Object {
		t.Errorf("left: %v", left)
	}
}

func TestAnOldStoreStaysReadableUntilItIsEmpty(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("in the old one"))
	next := blobstore.Memory()
	t.Cleanup(func() { _ = next.Close() })
	if err := f.Use(map[string]claimcheck.Store{"main": f.store, "next": next}, "next"); err != nil {
		t.Fatal(err)
	}
	if c := f.put(t, []byte("in the new one")); c.Store != "next" {
		t.Errorf("got %+v, want it in the new store", c)
	}
	wantPayload(t, f.Checkroom, c, []byte("in the old one"))
	holds := func(want bool) {
		t.Helper()
		if got, err := f.Holds(t.Context(), "main"); got != want || err != nil {
			t.Errorf("the old store holds something: got %v, %v, want %v", got, err, want)
		}
	}
	holds(true)
	// A payload that is passed on moves to the new store.
	moved, err := f.Store(t.Context(), claimcheck.Payload{
		Owner: owner, ContentType: "image/png", Head: []byte("in the old one"), Length: -1, Same: &c,
	})
	if err != nil || moved.Store != "next" {
		t.Errorf("got %+v, %v, want it in the new store", moved, err)
	}
	if done, err := f.Discard(t.Context(), c); !done || err != nil {
		t.Errorf("discard: got %v, %v", done, err)
	}
	holds(false)
	if err := f.Use(map[string]claimcheck.Store{"next": next}, "next"); err != nil {
		t.Fatal(err)
	}
	if err := f.Use(map[string]claimcheck.Store{"next": next}, "main"); err == nil {
		t.Error("a current store that is not there: no error")
	}
	wantPayload(t, f.Checkroom, moved, []byte("in the old one"))
}

func TestWhatIsConfiguredIsChecked(t *testing.T) {
	t.Parallel()
	s := blobstore.Memory()
	defer s.Close()
	good := claimcheck.Config{Stores: map[string]claimcheck.Store{"a": s}, Current: "a", Keys: keys(t)}
	for name, change := range map[string]func(*claimcheck.Config){
		"no keys":       func(c *claimcheck.Config) { c.Keys = nil },
		"no stores":     func(c *claimcheck.Config) { c.Stores = nil },
		"no current":    func(c *claimcheck.Config) { c.Current = "b" },
		"nil store":     func(c *claimcheck.Config) { c.Stores = map[string]claimcheck.Store{"a": s, "b": nil} },
		"long id":       func(c *claimcheck.Config) { c.Stores = map[string]claimcheck.Store{"a": s, strings.Repeat("b", 65): s} },
		"negative ttl":  func(c *claimcheck.Config) { c.TTL = -1 },
		"negative time": func(c *claimcheck.Config) { c.Slack = -1 },
	} {
		c := good
		change(&c)
		if _, err := claimcheck.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := claimcheck.New(good); err != nil {
		t.Error(err)
	}
}

// A payload is on its way when the store changes: the former one must not be taken
// for empty, closed and forgotten before the payload is there.
func TestAStoreThatAPayloadIsOnItsWayToIsNotEmpty(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	next := blobstore.Memory()
	defer next.Close()
	holds := func() bool {
		t.Helper()
		holds, err := f.Holds(t.Context(), "main")
		if err != nil {
			t.Fatal(err)
		}
		return holds
	}
	data := randomBytes(1, mib)
	change := readerFunc(func([]byte) (int, error) {
		if err := f.Use(map[string]claimcheck.Store{"main": f.store, "next": next}, "next"); err != nil {
			t.Error(err)
		}
		if !holds() {
			t.Error("a store that a payload is being put into is said to be empty")
		}
		return 0, io.EOF
	})
	c, err := f.Store(t.Context(), claimcheck.Payload{Owner: owner, Length: -1, Rest: io.MultiReader(bytes.NewReader(data), change)})
	if err != nil || c.Store != "main" {
		t.Fatalf("stored in %q, %v; want main", c.Store, err)
	}
	if !holds() {
		t.Error("a store with a payload is said to be empty")
	}
	wantPayload(t, f.Checkroom, c, data)
	if done, err := f.Discard(t.Context(), c); !done || err != nil {
		t.Fatalf("deleted: %v, %v", done, err)
	}
	if holds() {
		t.Error("a store without a payload is not said to be empty")
	}
}
