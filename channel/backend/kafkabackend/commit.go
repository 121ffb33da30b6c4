package kafkabackend

import (
	"errors"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// commitGap is how long after a commit the next one waits, if it is not the last.
const commitGap = 20 * time.Millisecond

// soil notes that there is something to commit.
func (d *desk) soil() {
	if d.dirty = true; d.committing || d.stage != active {
		return
	}
	d.committing = true
	d.committed = make(chan struct{})
	if wait := commitGap - time.Since(d.last); wait > 0 {
		time.AfterFunc(wait, func() { d.s.b.commits.add(d) })
		return
	}
	d.s.b.commits.add(d)
}

// commit commits once. The batcher of the backend calls it.
func (d *desk) commit() {
	s := d.s
	s.mu.Lock()
	at := d.changed()
	live := d.stage == active || d.stage == retired
	waiters, heard := d.takeWaiters(), d.heard
	s.mu.Unlock()
	var err error
	if len(at) > 0 && live {
		if s.b.fleet.holding() {
			err = s.b.commitPositions(s.b.life, s.log, s.group, at)
		} else {
			err = backend.ErrUnavailable // perhaps it is another's to commit by now
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.last = time.Now()
	d.committing = false
	close(d.committed)
	if err != nil {
		d.restore(at)
		d.waiters = append(d.waiters, waiters...)
	} else {
		d.answer(waiters, nil)
		if !d.dirty {
			heard = d.heard // what came meanwhile was known
		}
		d.confirm(heard)
	}
	if d.dirty && d.stage == active && s.b.life.Err() == nil {
		d.soil()
	}
}

// changed takes what is to be committed.
func (d *desk) changed() map[int32]position {
	at := make(map[int32]position)
	for i, c := range d.cursors {
		if c.dirty {
			c.dirty = false
			at[int32(i)] = c.tracker.position()
		}
	}
	d.dirty = false
	return at
}

func (d *desk) restore(at map[int32]position) {
	for i := range at {
		d.cursors[i].dirty = true
	}
	d.dirty = d.dirty || len(at) > 0
}

// commitLast commits what a retired desk knows, until that has succeeded or
// is another's business.
func (d *desk) commitLast(me string) {
	s := d.s
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		d.answer(d.takeWaiters(), nil)
	}()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		s.mu.Lock()
		committing, committed := d.committing, d.committed
		s.mu.Unlock()
		if committing {
			select {
			case <-committed:
			case <-s.b.life.Done():
				return
			}
			continue
		}
		s.mu.Lock()
		at := d.changed()
		s.mu.Unlock()
		if len(at) == 0 {
			return
		}
		var err error = backend.ErrUnavailable
		if s.b.fleet.holding() {
			err = s.b.commitPositions(s.b.life, s.log, s.group, at)
		}
		if err == nil || errors.Is(err, backend.ErrNotFound) {
			return
		}
		s.mu.Lock()
		d.restore(at)
		s.mu.Unlock()
		if !s.b.fleet.is(me) {
			return
		}
		select {
		case <-time.After(pause):
		case <-s.b.life.Done():
			return
		}
	}
}
