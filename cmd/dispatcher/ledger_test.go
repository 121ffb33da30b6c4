package main

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ledger counts how often each post has come to an end of its way.
type ledger struct {
	mu     sync.Mutex
	counts map[post]int
	events map[int]bool
	extra  int // arrivals of a post beyond its first
	last   time.Time
}

func newLedger() *ledger {
	return &ledger{counts: map[post]int{}, events: map[int]bool{}, last: time.Now()}
}

func (l *ledger) enter(p post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = time.Now()
	l.events[p.event] = true
	if l.counts[p]++; l.counts[p] > 1 {
		l.extra++
	}
}

func (l *ledger) has(p post) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[p] > 0
}

// hasEvent tells whether any post of the event has arrived.
func (l *ledger) hasEvent(event int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[event]
}

// reached is how many different events have arrived.
func (l *ledger) reached() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.events)
}

// duplicates is how many arrivals were of a post that had arrived before.
func (l *ledger) duplicates() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.extra
}

// quietFor is the time since the last arrival.
func (l *ledger) quietFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.last)
}

// missing lists accepted posts that are in none of the ledgers.
func missing(s *sender, ledgers ...*ledger) []post {
	var none []post
	for i := range s.accepted {
		p := post{s.first + i, int(s.accepted[i].Load())}
		found := p.attempt == 0 // not accepted (yet)
		for _, l := range ledgers {
			found = found || l.has(p)
		}
		if !found {
			none = append(none, p)
		}
	}
	return none
}

// awaitAll waits until every event was accepted and has arrived in one of the
// ledgers. It fails the test when nothing arrives any more.
func awaitAll(t testing.TB, s *sender, ledgers ...*ledger) {
	t.Helper()
	progress := func() (n int) {
		n = int(s.count.Load())
		for _, l := range ledgers {
			n += l.reached()
		}
		return n
	}
	last, since := progress(), time.Now()
	for {
		if s.done() && len(missing(s, ledgers...)) == 0 {
			return
		}
		if n := progress(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) > patience {
			lost := missing(s, ledgers...)
			t.Fatalf("%d of %d events were accepted; %d of them have not arrived: %v …",
				s.count.Load(), s.events, len(lost), lost[:min(len(lost), 10)])
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// redelivery is how long the broker keeps a record from others when its holder
// has died (natsbackend's AckWait of 10 s), and a little more.
const redelivery = 12 * time.Second

// awaitQuiet waits until what is still to be delivered again has been: only then
// are duplicates counted.
func awaitQuiet(t testing.TB, ledgers ...*ledger) {
	t.Helper()
	await(t, "the end of redeliveries", func() bool {
		for _, l := range ledgers {
			if l.quietFor() < redelivery {
				return false
			}
		}
		return true
	})
}

// pulse counts calls over time.
type pulse struct {
	begun   time.Time
	buckets [1 << 17]atomic.Int32
}

const bucket = 10 * time.Millisecond

func newPulse() *pulse { return &pulse{begun: time.Now()} }

func (p *pulse) beat() {
	p.buckets[min(int(time.Since(p.begun)/bucket), len(p.buckets)-1)].Add(1)
}

// recent is how many calls came within the time before now.
func (p *pulse) recent(d time.Duration) int {
	now := int(time.Since(p.begun) / bucket)
	sum := 0
	for i := max(0, now-int(d/bucket)); i <= now; i++ {
		sum += int(p.buckets[min(i, len(p.buckets)-1)].Load())
	}
	return sum
}
