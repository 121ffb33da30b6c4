package kafkabackend

import (
	"context"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

// fetcher reads what one broker leads, for all subscriptions, over a fixed
// number of connections: its lanes. Each lane waits in a long poll for any of
// its units, which may be thousands.
//
//	set ---> ready ---> lane 0: long poll 5 s    [ idle units, nearly all of them      ]
//	                    lane 1: long poll 1 s    [ units just read, and not idle yet   ]
//	                    lane 2: ...                  | lane 0 adopts them when it
//	                    lane 5: long poll 10 ms      v begins its next poll
//
// A broker answers a poll when one of its partitions has records, and not
// before, so a partition cannot join a poll under way. It takes the next lane that is
// free. Higher lanes poll for shorter: the last one is free again soon,
// and what it found idle is adopted by a lower lane, until all is in lane 0. So
// an idle process polls once in 5 s, and no record ever waits for a poll to end.
// A lane tells the broker only what changed since its last poll (KIP-227).
type fetcher struct {
	b *broker

	lanes []*lane
	mu    sync.Mutex
	ready []*unit
}

// polls is how long the lanes' polls last when there is nothing.
var polls = []time.Duration{
	5 * time.Second, time.Second, 200 * time.Millisecond, 50 * time.Millisecond, 20 * time.Millisecond, 10 * time.Millisecond,
}

const (
	// fetchBytes bounds an answer, but for a single batch that is larger.
	fetchBytes = 4 << 20
	// crowd is how many units lane 0 may have before units that are at work
	// are kept out of it: the broker looks at all of them for each answer.
	crowd = 128
)

// unit is something that reads a partition. take is called with what came from
// the offset given on, perhaps twice; set says what is wanted next.
type unit struct {
	partition
	take func(f *fetched, offset int64)

	// The fetcher's lock guards these.
	wants   bool
	offset  int64
	max     int32
	idle    bool // the last poll found nothing
	isReady bool
	flights [8]flight // by lane
}

type flight struct {
	under  bool
	offset int64
}

type lane struct {
	f     *fetcher
	level int
	wake  chan struct{} // one place
	// The fetcher's lock guards busy.
	busy  bool
	units []*unit

	link    *link
	session int32
	epoch   int32
	sent    map[partition]fetchWish
	answer  fetchAnswer
}

func newFetcher(b *broker) *fetcher {
	f := &fetcher{b: b}
	for level := range polls {
		l := &lane{f: f, level: level, wake: make(chan struct{}, 1)}
		f.lanes = append(f.lanes, l)
	}
	for _, l := range f.lanes {
		b.c.group.Go(l.work)
	}
	return f
}

// set says what a unit wants from now on.
func (f *fetcher) set(u *unit, wants bool, offset int64, most int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if u.wants, u.max = wants, most; u.offset != offset {
		u.offset, u.idle = offset, false
	}
	if wants && !u.flying() {
		f.enqueue(u)
	}
}

// flying: a poll under way will bring what the unit wants.
func (u *unit) flying() bool {
	for i := range u.flights {
		if u.flights[i].under && u.flights[i].offset == u.offset {
			return true
		}
	}
	return false
}

func (f *fetcher) enqueue(u *unit) {
	if !u.isReady {
		u.isReady = true
		f.ready = append(f.ready, u)
	}
	f.wakeOne(0)
}

// wakeOne has the lowest lane that is free, from the one given on, take what is ready.
func (f *fetcher) wakeOne(from int) {
	for _, l := range f.lanes[min(from, len(f.lanes)):] {
		if !l.busy {
			select {
			case l.wake <- struct{}{}:
			default:
			}
			return
		}
	}
}

func (l *lane) work() {
	defer l.drop()
	life := l.f.b.c.life
	pause := time.Duration(0)
	for {
		wishes := l.gather()
		if wishes == nil {
			select {
			case <-l.wake:
				continue
			case <-life.Done():
				return
			}
		}
		err := l.poll(life, wishes)
		if life.Err() != nil {
			l.land(nil)
			return
		}
		if err != nil {
			l.drop()
			l.f.b.c.lost(l.f.b)
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-life.Done():
			}
			l.fail()
			continue
		}
		pause = 0
		l.hand()
	}
}

// gather makes up the next poll: the units that stay, those that are ready, and
// the idle ones of higher lanes. nil: there are none, and the lane is free.
func (l *lane) gather() []fetchWish {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	l.busy = true
	offsets := make(map[partition]int64, len(l.units)+len(f.ready))
	var wishes []fetchWish
	kept := l.units[:0]
	add := func(u *unit) bool {
		if at, ok := offsets[u.partition]; ok {
			if at != u.offset {
				return false // another group reads elsewhere in that partition
			}
		} else {
			offsets[u.partition] = u.offset
			wishes = append(wishes, fetchWish{u.partition, u.offset, u.max})
		}
		u.flights[l.level] = flight{true, u.offset}
		kept = append(kept, u)
		return true
	}
	for _, u := range l.units {
		if !u.wants || u.isReady || u.flying() {
			continue
		}
		if !add(u) {
			u.isReady = true
			f.ready = append(f.ready, u)
		}
	}
	later := f.ready[:0]
	busy := l.level == 0 && len(kept) > crowd && f.anyFree(1)
	for _, u := range f.ready {
		switch {
		case !u.wants || u.flying():
			u.isReady = false
		case busy, !add(u):
			later = append(later, u)
		default:
			u.isReady = false
		}
	}
	clear(f.ready[len(later):])
	f.ready = later
	for _, higher := range f.lanes[l.level+1:] {
		for _, u := range higher.units {
			if higher.busy && u.wants && u.idle && u.flights[higher.level].offset == u.offset && !u.flights[l.level].under {
				add(u)
			}
		}
	}
	clear(l.units[min(len(kept), len(l.units)):])
	l.units = kept
	if len(later) > 0 {
		f.wakeOne(0)
	}
	if len(wishes) == 0 {
		l.busy = false
	}
	return wishes
}

func (f *fetcher) anyFree(from int) bool {
	for _, l := range f.lanes[from:] {
		if !l.busy {
			return true
		}
	}
	return false
}

// poll asks, and waits for the answer.
func (l *lane) poll(life context.Context, wishes []fetchWish) error {
	wait := polls[l.level]
	ctx, cancel := context.WithTimeout(life, wait+l.f.b.c.timeout)
	defer cancel()
	if l.link == nil {
		link, err := l.f.b.c.dialer.connect(ctx, l.f.b.address)
		if err != nil {
			return err
		}
		l.link, l.session, l.epoch, l.sent = link, 0, 0, nil
	}
	r := &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: fetchBytes,
		SessionID: l.session, SessionEpoch: l.epoch,
	}
	l.change(r, wishes)
	b, err := l.link.raw(ctx, r)
	if err != nil {
		return err
	}
	if err := parseFetch(b, &l.answer); err != nil {
		return err
	}
	switch e := kafka.Error(l.answer.code); e {
	case 0:
	case kafka.FetchSessionIDNotFound, kafka.InvalidFetchSessionEpoch:
		// The broker forgot the session: the next poll begins another.
		l.session, l.epoch, l.sent = 0, 0, nil
		l.answer.parts = nil
		return nil
	default:
		return brokerError(l.answer.code)
	}
	if l.session = l.answer.session; l.session == 0 {
		l.epoch, l.sent = 0, nil
	} else {
		l.epoch = max(1, l.epoch+1)
	}
	return nil
}

// change puts into r what the broker does not know yet of what is wanted.
func (l *lane) change(r *fetch.Request, wishes []fetchWish) {
	if l.session == 0 {
		r.Topics = fetchTopics(wishes)
		l.sent = make(map[partition]fetchWish, len(wishes))
		for _, w := range wishes {
			l.sent[w.partition] = w
		}
		return
	}
	var changed []fetchWish
	wanted := make(map[partition]struct{}, len(wishes))
	for _, w := range wishes {
		wanted[w.partition] = struct{}{}
		if l.sent[w.partition] != w {
			changed = append(changed, w)
			l.sent[w.partition] = w
		}
	}
	r.Topics = fetchTopics(changed)
	if len(wanted) == len(l.sent) {
		return
	}
	forgotten := make(map[string][]int32)
	for p := range l.sent {
		if _, ok := wanted[p]; !ok {
			forgotten[p.topic] = append(forgotten[p.topic], p.index)
			delete(l.sent, p)
		}
	}
	for topic, indexes := range forgotten {
		r.ForgottenTopics = append(r.ForgottenTopics, fetch.RequestForgottenTopic{Topic: topic, Partitions: indexes})
	}
}

// hand gives what came to the units that still want it.
func (l *lane) hand() {
	for _, h := range l.land(l.answer.parts) {
		h.unit.take(h.fetched, h.offset)
	}
}

type handing struct {
	unit    *unit
	fetched *fetched
	offset  int64
}

// land ends the flights and sorts out who gets what.
func (l *lane) land(parts []fetched) []handing {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	came := make(map[partition]*fetched, len(parts))
	for i := range parts {
		if p := &parts[i]; len(p.records) > 0 || p.code != 0 {
			came[p.partition] = p
		}
	}
	var hand []handing
	for _, u := range l.units {
		at := u.flights[l.level]
		u.flights[l.level] = flight{}
		p := came[u.partition]
		if current := u.wants && u.offset == at.offset; current && p != nil {
			hand = append(hand, handing{u, p, at.offset})
		} else if current {
			u.idle = true
		}
	}
	return hand
}

// fail has every unit look for its partition's leader anew.
func (l *lane) fail() {
	f := l.f
	f.mu.Lock()
	units := l.units
	l.units = nil
	for _, u := range units {
		u.flights[l.level] = flight{}
	}
	f.mu.Unlock()
	for _, u := range units {
		u.take(&fetched{partition: u.partition, code: int16(kafka.LeaderNotAvailable)}, -1)
	}
}

func (l *lane) drop() {
	if l.link != nil {
		l.link.close()
		l.link = nil
	}
}
