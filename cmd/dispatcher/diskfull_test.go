//go:build linux

package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// smallDisk is the size of a file system of its own, large enough for a trial's
// events.
const smallDisk = "size=96m"

// mountSmallDisk returns the folder of a file system of that size.
func mountSmallDisk(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, size)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENODEV) {
		t.Skipf("no small file system can be mounted here (%v): run as root to test a full disk", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ballast is a file that takes up room.
type ballast struct {
	file *os.File
	dir  string
}

func newBallast(t testing.TB, dir string) *ballast {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &ballast{file: f, dir: dir}
}

// leave grows the file until only so many bytes are free: 0 for not one.
func (b *ballast) leave(t testing.TB, bytes int64) {
	t.Helper()
	chunk := make([]byte, 64<<10)
	for {
		var s syscall.Statfs_t
		if err := syscall.Statfs(b.dir, &s); err != nil {
			t.Fatal(err)
		}
		if bytes > 0 && int64(s.Bavail)*s.Bsize <= bytes {
			return
		}
		if _, err := b.file.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// drop gives the room back.
func (b *ballast) drop(t testing.TB) {
	t.Helper()
	if err := b.file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.file.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
}

// gate holds calls back until it is opened.
type gate struct {
	open chan struct{}
	once sync.Once
	http.Handler
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-g.open:
		g.Handler.ServeHTTP(w, r)
	case <-r.Context().Done():
	}
}

func (g *gate) lift() { g.once.Do(func() { close(g.open) }) }

// TestFullDiskStopsIngressAndNotDelivery: the disk gets full while there is a
// backlog, which is delivered all the same; then there is room again.
func TestFullDiskStopsIngressAndNotDelivery(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode string) {
		const backlog, more, clients = 1_000, 500, 16
		dir := mountSmallDisk(t, smallDisk)
		b := newBallast(t, dir)
		r := newTrial(t)
		g := &gate{open: make(chan struct{}), Handler: forward(t, r.calls)}
		t.Cleanup(g.lift)
		r.steps[0] = startEndpoint(t, g)
		r.begin(t, sequenceYAML(mode, patient, r.steps[:]...), filepath.Join(dir, "data"), backlog, clients)
		await(t, "the backlog to be accepted", r.done)

		b.leave(t, 7<<20) // a tenth of 96 MiB is kept free of events from outside
		await(t, "the dispatcher to see it", func() bool { return r.metric(t, "sidestep_backend_full") == "1" })
		later := send(t, r.url, backlog, more, clients)
		await(t, "ingress to refuse an event", func() bool { return later.refused.Load() > 0 })
		g.lift()
		await(t, "the backlog to be delivered", func() bool { return len(missing(r.sender, r.end)) == 0 })
		if n := later.count.Load(); n > 0 {
			t.Errorf("%d events were accepted while the disk was full", n)
		}
		b.drop(t)
		awaitAll(t, later, r.end)
		r.alive(t)
		t.Logf("%s: %d events delivered while the disk was full, %d posts refused", mode, backlog, later.refused.Load())
	})
}

// TestDiskFullToTheLastByteLosesNoAcceptedEvent: no write succeeds while events
// flow. The store breaks then; it must come back by itself.
func TestDiskFullToTheLastByteLosesNoAcceptedEvent(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode string) {
		const events, clients = 12_000, 16
		dir := mountSmallDisk(t, smallDisk)
		b := newBallast(t, dir)
		r := newTrial(t)
		r.begin(t, sequenceYAML(mode, patient, r.steps[:]...), filepath.Join(dir, "data"), scaled(events, 5*events), clients)
		rounds := scaled(2, 20)
		// The disk takes a while to fill: enough events must be left by then.
		for _, at := range r.moments(rounds, r.events/3) {
			await(t, "events to be accepted", func() bool { return t.Failed() || int(r.count.Load()) >= at })
			refused := r.refused.Load()
			await(t, "ingress to refuse many events", func() bool {
				b.leave(t, 0) // again: the store gives room back as it goes
				return r.refused.Load() > refused+500
			})
			accepted := r.count.Load()
			b.drop(t)
			await(t, "ingress to accept again", func() bool { return r.count.Load() > accepted })
		}
		awaitAll(t, r.sender, r.end)
		r.alive(t)
		t.Logf("%s: disk full %d times, the store broken %d times, %d events, %d posts refused, %d without an answer, %d duplicates",
			mode, rounds, r.stderr.count("starting the embedded server again"),
			r.events, r.refused.Load(), r.broken.Load(), r.end.duplicates())
	})
}
