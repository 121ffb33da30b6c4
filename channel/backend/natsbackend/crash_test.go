package natsbackend

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/internal/brokertest"
)

// halfMade is a log whose maker died after it had written the entry.
func halfMade(t *testing.T, b *Backend) string {
	t.Helper()
	e := entry{Name: newLogName(), Incarnation: newIncarnation(), State: live}
	if _, err := b.catalog.write(ctxOf(t), e); err != nil {
		t.Fatal(err)
	}
	return e.Name
}

func TestALogWithoutItsSubjectDoesNotRefusePublishes(t *testing.T) {
	t.Parallel()
	s := startServer(t, ServerConfig{})
	b := connectTo(t, Config{Server: s})
	log := halfMade(t, b)
	publish(t, b, log, "by who wrote the entry")
	log = halfMade(t, b)
	publish(t, connectTo(t, Config{Server: s}), log, "by another")
}

func TestALogWithoutItsSubjectDoesNotRefuseGroups(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	for _, also := range []bool{false, true} { // the stream is missing, too
		log := halfMade(t, b)
		if also {
			makeLogInShard(t, b, shardOf(log))
		}
		if err := b.EnsureGroup(ctxOf(t), log, backend.Group{Name: "g"}); err != nil {
			t.Fatalf("stream there %v: EnsureGroup: %v", also, err)
		}
		publish(t, b, log, "first")
		sub := subscribe(t, b, log, "g", backend.Options{})
		if d := receive(t, sub); string(d.Data) != "first" {
			t.Fatalf("received %q", d.Data)
		}
	}
}

func makeLogInShard(t testing.TB, b *Backend, shard int) string {
	t.Helper()
	log := nameInShard(shard)
	if _, err := b.EnsureLog(ctxOf(t), backend.Log{Name: log}); err != nil {
		t.Fatal(err)
	}
	return log
}

func nameInShard(shard int) string {
	for {
		if log := newLogName(); shardOf(log) == shard {
			return log
		}
	}
}

// halfDeleted is a log whose deleter died after it had marked it.
func halfDeleted(t *testing.T, b *Backend) (string, entry) {
	t.Helper()
	log := makeLog(t, b, false, "g")
	publish(t, b, log, "old")
	e, err := b.catalog.read(ctxOf(t), log)
	if err != nil {
		t.Fatal(err)
	}
	e.State = deleting
	if e, err = b.catalog.write(ctxOf(t), e); err != nil {
		t.Fatal(err)
	}
	return log, e
}

func TestAHalfDeletedLogIsNotFound(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	log, _ := halfDeleted(t, b)
	wantError(t, "Publish", b.Publish(ctxOf(t), log, &backend.Record{}), backend.ErrNotFound)
	wantError(t, "EnsureGroup", b.EnsureGroup(ctxOf(t), log, backend.Group{Name: "h"}), backend.ErrNotFound)
	wantError(t, "Seal", b.Seal(ctxOf(t), log), backend.ErrNotFound)
	_, err := b.Subscribe(ctxOf(t), log, "g", backend.Options{})
	wantError(t, "Subscribe", err, backend.ErrNotFound)
	_, err = b.Lag(ctxOf(t), log, "g")
	wantError(t, "Lag", err, backend.ErrNotFound)
}

func TestAHalfDeletedLogDoesNotLeaveAnythingToTheNextOfItsName(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	log, was := halfDeleted(t, b)
	i, err := b.EnsureLog(ctxOf(t), backend.Log{Name: log})
	if err != nil {
		t.Fatal(err)
	}
	if i == was.Incarnation {
		t.Fatal("the new log has the old one's incarnation")
	}
	wantNothingOf(t, b, was)
	_, err = b.Lag(ctxOf(t), log, "g")
	wantError(t, "Lag of the old log's group", err, backend.ErrNotFound)
	publish(t, b, log, "new")
}

func TestDeleteLogDoesNotLeaveAHalfDeletedOne(t *testing.T) {
	t.Parallel()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{})})
	log, was := halfDeleted(t, b)
	if err := b.DeleteLog(ctxOf(t), log); err != nil {
		t.Fatal(err)
	}
	wantNothingOf(t, b, was)
	e, err := b.catalog.read(ctxOf(t), log)
	if err != nil || e.State != deleted {
		t.Fatalf("its entry says %q, %v", e.State, err)
	}
}

// wantNothingOf: neither subject nor consumers nor records.
func wantNothingOf(t *testing.T, b *Backend, e entry) {
	t.Helper()
	if slices.Contains(subjects(t, b, e.shard), e.subject) {
		t.Error("the stream still takes its subject")
	}
	_, err := b.consumerInfo(ctxOf(t), e.shard, consumer(e.Incarnation, "g"))
	wantError(t, "its consumer", err, backend.ErrNotFound)
	s, err := b.js.Stream(ctxOf(t), b.names.shardStream(e.shard))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.GetLastMsgForSubject(ctxOf(t), e.subject); err == nil {
		t.Errorf("record %d is still there", m.Sequence)
	}
}

func subjects(t *testing.T, b *Backend, shard int) []string {
	t.Helper()
	s, err := b.js.Stream(ctxOf(t), b.names.shardStream(shard))
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config.Subjects
}

// Two processes make, seal and delete logs of one shard at the same time.
func TestTwoProcessesDoNotUndoEachOthersSubjects(t *testing.T) {
	t.Parallel()
	const shard, each = 7, 24
	c := brokertest.Start(t)
	ctx := ctxOf(t)
	processes := []*Backend{
		connectTo(t, Config{URL: "nats://" + c.Address}),
		connectTo(t, Config{URL: "nats://" + c.Address}),
	}
	names := make([][]string, len(processes))
	var running sync.WaitGroup
	for p, b := range processes {
		for i := range each {
			name := nameInShard(shard)
			names[p] = append(names[p], name)
			running.Go(func() {
				if err := changeLog(t, b, name, i); err != nil {
					t.Errorf("process %d: %v", p, err)
				}
			})
		}
	}
	running.Wait()

	fresh := connectTo(t, Config{URL: "nats://" + c.Address})
	want := []string{fresh.names.anchorSubject(shard)}
	for _, logs := range names {
		for i, name := range logs {
			e, err := fresh.catalog.read(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if want := []state{live, sealed, deleted}[i%3]; e.State != want {
				t.Errorf("log %d is %s, want %s", i, e.State, want)
			}
			if e.State == live {
				want = append(want, e.subject)
			}
		}
	}
	got := subjects(t, fresh, shard)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the stream takes\n%q, want\n%q", got, want)
	}
}

// changeLog makes a log, and then leaves it, seals it or deletes it.
func changeLog(t *testing.T, b *Backend, name string, i int) error {
	ctx := ctxOf(t)
	if _, err := b.EnsureLog(ctx, backend.Log{Name: name}); err != nil {
		return fmt.Errorf("EnsureLog: %w", err)
	}
	switch i % 3 {
	case 1:
		return b.Seal(ctx, name)
	case 2:
		return b.DeleteLog(ctx, name)
	}
	return nil
}
