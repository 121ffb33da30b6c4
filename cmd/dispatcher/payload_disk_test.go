//go:build linux

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
)

// storeYAML has payloads go to a folder.
func storeYAML(folder string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep, namespace: knative-eventing}\n" +
		"data:\n  claim-check: |\n    store: file://" + folder + "\n---\n"
}

// TestStoreWithoutRoomRefusesLargeEventsAndNoSmallOnes: the disk of the store for
// payloads, not that of the log, is full or cannot be written to. What is there is
// delivered all the same.
func TestStoreWithoutRoomRefusesLargeEventsAndNoSmallOnes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long: it starts processes")
	}
	for name, trouble := range map[string]func(t *testing.T, dir string) (end func()){
		"full": func(t *testing.T, dir string) func() {
			b := newBallast(t, dir)
			b.leave(t, 0)
			return func() { b.drop(t) }
		},
		"read-only": func(t *testing.T, dir string) func() {
			remount(t, dir, syscall.MS_RDONLY)
			return func() { remount(t, dir, 0) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const events, clients = 30, 4
			dir := mountSmallDisk(t, smallDisk)
			r := newTrial(t)
			g := &gate{open: make(chan struct{}), Handler: collect(t, r.calls, r.end)}
			t.Cleanup(g.lift)
			r.steps[2] = startEndpoint(t, g)
			yaml := storeYAML(filepath.Join(dir, "claims")) + sequenceYAML("Never", patient, r.steps[:]...)
			r.installation = install(t, yaml, "")
			url := r.start(t)
			before := send(t, url, firstLarge, events, clients)
			await(t, "a backlog of large events", before.done)

			end := trouble(t, dir)
			refused := send(t, url, firstLarge+events, events, clients)
			small := send(t, url, 0, events, clients)
			await(t, "small events to be accepted", small.done)
			await(t, "large events to be refused", func() bool { return refused.refused.Load() > 2*clients })
			if n := refused.count.Load(); n > 0 {
				t.Errorf("%d large events were accepted by a store that takes nothing", n)
			}
			g.lift()
			awaitAll(t, before, r.end)
			awaitAll(t, small, r.end)
			end()
			awaitAll(t, refused, r.end)
			r.alive(t)
		})
	}
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	var err error
	await(t, "nobody to write just now", func() bool {
		err = syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, smallDisk)
		return !errors.Is(err, syscall.EBUSY)
	})
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("the file system cannot be mounted anew: %v", err)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestDiskFullToTheLastByteLosesNoLargeEvent: log and payloads share a disk, of which
// nothing is left while large and small events flow.
func TestDiskFullToTheLastByteLosesNoLargeEvent(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long: it starts processes")
	}
	const events, clients = 400, 4
	// Payloads of records that are delivered again stay until their time is over.
	dir := mountSmallDisk(t, fmt.Sprintf("size=%dm", scaled(96, 256)))
	b := newBallast(t, dir)
	r := newTrial(t)
	r.installation = install(t, sequenceYAML("Never", patient, r.steps[:]...), filepath.Join(dir, "data"))
	url := r.start(t)
	large := send(t, url, firstLarge, events, clients)
	small := send(t, url, 0, events, clients)
	for range scaled(2, 20) {
		refused, accepted := large.refused.Load(), large.count.Load()
		await(t, "events to be accepted", func() bool { return large.count.Load() > accepted+10 || large.done() })
		await(t, "large events to be refused", func() bool {
			b.leave(t, 0)
			return large.refused.Load() > refused+20 || large.done()
		})
		b.drop(t)
	}
	awaitAll(t, large, r.end)
	awaitAll(t, small, r.end)
	r.alive(t)
	t.Logf("%d large posts refused, %d small ones", large.refused.Load(), small.refused.Load())
}
