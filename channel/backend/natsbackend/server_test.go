package natsbackend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sync/errgroup"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

func TestRoomOutsideEndsBeforeRoomInside(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		free            int64
		outside, inside error
	}{
		"plenty":                   {free: 1 << 30},
		"the reserve is touched":   {free: 90 << 20, outside: backend.ErrFull},
		"a third of it is left":    {free: 30 << 20, outside: backend.ErrFull, inside: backend.ErrFull},
		"nothing is left":          {outside: backend.ErrFull, inside: backend.ErrFull},
		"just above the reserve":   {free: 90<<20 + 1},
		"just above a third of it": {free: 30<<20 + 1, outside: backend.ErrFull},
	} {
		d := &disk{reserve: 90 << 20}
		d.free.Store(test.free)
		if err := d.outside(); !errors.Is(err, test.outside) {
			t.Errorf("%s: outside: %v, want %v", name, err, test.outside)
		}
		if err := d.inside(); !errors.Is(err, test.inside) {
			t.Errorf("%s: inside: %v, want %v", name, err, test.inside)
		}
	}
}

// A stream takes nothing more once it could not be written, as happens here: what
// is published passes over the check that would have refused it.
func TestAFullDiskDoesNotLoseRecordsNorEndTheServer(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	s := startServer(t, ServerConfig{Dir: filepath.Join(dir, "store")})
	b := connectTo(t, Config{Server: s})
	log := makeLog(t, b, false, "g")
	first := s.runningNow()
	publish(t, b, log, numbered("before", 10)...)

	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	accepted := overfill(t, b, log, s)
	eventually(t, "refusal", func() error {
		err := b.Publish(ctxOf(t), log, &backend.Record{Data: []byte("refused")})
		if !errors.Is(err, backend.ErrFull) {
			return fmt.Errorf("Publish: %w, want ErrFull", err)
		}
		return wantFull(b, log)
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "server that has started again", func() error {
		if err := b.Room(log); err != nil {
			return err
		}
		return b.Publish(ctxOf(t), log, &backend.Record{Data: []byte("after")})
	})
	if s.runningNow() == first {
		t.Error("the server was not started again: its store was never broken")
	}
	want := map[string]bool{"after": true}
	for _, id := range append(accepted, numbered("before", 10)...) {
		want[id] = true
	}
	sub := subscribe(t, b, log, "g", backend.Options{})
	for len(want) > 0 {
		d := receive(t, sub)
		delete(want, idOf(d))
		ackAll(t, sub, d)
	}
}

func (s *Server) runningNow() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func wantFull(b *Backend, log string) error {
	if err := b.Room(log); !errors.Is(err, backend.ErrFull) {
		return fmt.Errorf("Room: %w, want ErrFull", err)
	}
	return nil
}

// fill writes until nothing more fits on the disk.
func fill(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
}

// overfill publishes until the server can write no more, and returns what it has
// accepted until then.
func overfill(t testing.TB, b *Backend, log string, s *Server) []string {
	t.Helper()
	e, err := b.catalog.fetch(ctxOf(t), log)
	if err != nil {
		t.Fatal(err)
	}
	var accepted []string
	eventually(t, "store that cannot be written", func() error {
		if broken(s.runningNow()) != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		id := fmt.Sprint("during", len(accepted))
		err := b.publisher.publish(ctx, e, &backend.Record{Data: []byte(large(id))})
		if err == nil {
			accepted = append(accepted, id)
		} else if !errors.Is(err, backend.ErrUnavailable) && !errors.Is(err, errNobody) {
			t.Errorf("publish to a full disk: %v, want ErrUnavailable", err)
		}
		return errors.New("it can")
	})
	return accepted
}

func TestCloseOfAServerDoesNotOutlastItsContext(t *testing.T) {
	t.Parallel()
	s, err := StartServer(ServerConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	blocked := make(chan struct{})
	s.done.Go(func() { <-blocked }) // as if it were starting the server again
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "Close", s.Close(ctx), context.Canceled)
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("second Close: %v", err)
	}
	close(blocked)
	eventually(t, "server that closes its files", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.current.Running() {
			return errors.New("it runs")
		}
		return nil
	})
}

// Logs of one shard change its stream while groups of others are made on it,
// which the server itself does not keep apart. The race detector is the judge.
func TestLogsAndGroupsOfOneShardDoNotRaceInTheServer(t *testing.T) {
	t.Parallel()
	s, err := StartServer(ServerConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopServer(t, s) })
	b := connect(t, Config{Server: s})
	t.Cleanup(func() { b.Close(context.WithoutCancel(t.Context())) })
	var made errgroup.Group
	for i, logs := 0, 0; logs < 32; i++ {
		log := fmt.Sprintf("ns/log-%d", i)
		if shardOf(log) != 0 {
			continue
		}
		logs++
		made.Go(func() error {
			if _, err := b.EnsureLog(t.Context(), backend.Log{Name: log}); err != nil {
				return err
			}
			for _, g := range []string{"a", "b", "c"} {
				if err := b.EnsureGroup(t.Context(), log, backend.Group{Name: g}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := made.Wait(); err != nil {
		t.Error(err)
	}
}
