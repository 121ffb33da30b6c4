package kafkabackend

import (
	"context"
	"time"
)

// A log's topic is made by the process whose claim holds. Processes that start
// together want the same thousands of topics, and a broker would be asked by each of
// them to make every one, and whether it can be used yet. The others wait instead, for
// the catalog to say that the log is made:
//
//	A  claim ----> topic made ----> "made"
//	B  finds A's claim ....................> goes on
//	C  finds A's claim ...> A is not heard of for AckWait: makes the topic, "made"
//
// A is heard of with each record of its own: while a broker makes thousands of topics, A
// goes on saying what it has made, of logs and of groups. Whoever was not heard of since
// this process reads along may be long dead, and nobody waits for it.
type makers struct {
	heard   map[string]time.Time     // by process; nil: what is read was there before
	waiting map[string]chan struct{} // by log; closed once its next change is taken in
	changed []chan struct{}          // of those, the ones to be closed
}

// attend begins to take what is read as news.
func (k *catalog) attend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.makers = makers{heard: make(map[string]time.Time), waiting: make(map[string]chan struct{})}
}

// hear is called with k.mu held.
func (m *makers) hear(process string) {
	if m.heard != nil && process != "" {
		m.heard[process] = time.Now()
	}
}

// note is called with k.mu held, when a log has changed.
func (m *makers) note(log string) {
	if changed := m.waiting[log]; changed != nil {
		m.changed = append(m.changed, changed)
		delete(m.waiting, log)
	}
}

// tell has those go on who wait for what has changed.
func (k *catalog) tell() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, changed := range k.makers.changed {
		close(changed)
	}
	k.makers.changed = nil
}

// watch finds a log as lookup does, when its claimant was heard of last, and what is
// closed after its next change. nil: there is no such log.
func (k *catalog) watch(log string) (e *logEntry, heard time.Time, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.holds(log)
	if !ok {
		return nil, heard, nil
	}
	next := k.makers.waiting[log]
	if next == nil {
		next = make(chan struct{})
		k.makers.waiting[log] = next
	}
	return e, k.makers.heard[e.By], next
}

// awaitMaker waits while another process makes the log of a claim. The log that it
// returns is made, or for this process to make.
func (b *Backend) awaitMaker(ctx context.Context, e *logEntry) (*logEntry, error) {
	for {
		now, heard, changed := b.catalog.watch(string(e.Name))
		if now == nil || now.Incarnation != e.Incarnation {
			return nil, errDeletedMeanwhile
		}
		left := b.config.AckWait - time.Since(heard)
		if now.Made || now.By == b.id || left <= 0 {
			return now, nil
		}
		silent := time.NewTimer(left)
		select {
		case <-changed:
		case <-silent.C:
		case <-ctx.Done():
		case <-b.life.Done():
		}
		silent.Stop()
		if err := b.check(ctx); err != nil {
			return nil, err
		}
	}
}
