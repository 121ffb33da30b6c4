package kafkabackend

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// A broker takes one batch for a partition at a time, so what many want to write into
// the catalog goes into it together.
const (
	// maxWritings and maxWritten bound what is stored in one batch, in changes and
	// in bytes: brokers take 1 MiB unless they are told otherwise.
	maxWritings = 500
	maxWritten  = 512 << 10
)

// writing is a change of the catalog that is on its way: the keys get a value, or are
// removed if it is nil.
type writing struct {
	keys  [][]byte
	value []byte
	// settled, if not nil, tells that the change has become needless while it
	// waited: it is left out then.
	settled func() bool

	left bool  // out
	end  int64 // the offset after it
	err  error
	done chan struct{}
}

func (w *writing) size() (n int) {
	for _, k := range w.keys {
		n += len(k) + len(w.value) + sizeOverhead
	}
	return n
}

// write appends to the catalog and returns when this process has applied it.
// nil: the key is removed.
func (k *catalog) write(ctx context.Context, key []byte, value any) error {
	var b []byte
	if value != nil {
		var err error
		if b, err = json.Marshal(value); err != nil {
			return err
		}
	}
	return k.append(ctx, &writing{keys: [][]byte{key}, value: b})
}

// claim writes unless somebody's claim of the same is known by the time at which ours
// would be written: processes that start together want the same logs. It tells
// whether ours was written.
func (k *catalog) claim(ctx context.Context, key []byte, value any, taken func() bool) (written bool, err error) {
	b, err := json.Marshal(value)
	if err != nil {
		return false, err
	}
	w := &writing{keys: [][]byte{key}, value: b, settled: taken}
	err = k.append(ctx, w)
	return err == nil && !w.left, err
}

// forget removes keys.
func (k *catalog) forget(ctx context.Context, keys [][]byte) error {
	for len(keys) > 0 {
		n := min(len(keys), maxWritings)
		if err := k.append(ctx, &writing{keys: keys[:n]}); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (k *catalog) append(ctx context.Context, w *writing) error {
	w.done = make(chan struct{})
	k.writing.add(w)
	select {
	case <-w.done:
	case <-ctx.Done():
		return contextError(ctx)
	}
	if w.err != nil {
		return failure("write the catalog", w.err)
	}
	return k.tail.await(ctx, w.end)
}

// put stores changes, in order and in few batches.
func (k *catalog) put(all []*writing) {
	all = slices.DeleteFunc(all, func(w *writing) bool {
		if w.settled == nil || !w.settled() {
			return false
		}
		w.left = true
		close(w.done)
		return true
	})
	for len(all) > 0 {
		n := fitting(all)
		k.putBatch(all[:n])
		all = all[n:]
	}
}

// fitting is how many of the first changes go into one batch: one at least.
func fitting(all []*writing) int {
	size := 0
	for i, w := range all {
		if size += w.size(); size > maxWritten && i > 0 {
			return i
		}
	}
	return len(all)
}

func (k *catalog) putBatch(together []*writing) {
	batch, records := beginBatch(nil), 0
	for _, w := range together {
		for _, key := range w.keys {
			batch = appendWire(batch, records, key, w.value)
			records++
		}
		w.end = int64(records)
	}
	endBatch(batch, 0, records, time.Now().UnixMilli())
	first, _, err := k.c.store(k.c.life, k.tail.at, batch)
	for _, w := range together {
		w.end, w.err = first+w.end, err
		close(w.done)
	}
}
