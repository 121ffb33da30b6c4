package kafkabackend

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// envelope is one record of the topic: what a peer says at once.
type envelope struct {
	From     string    `json:"from"`
	Seq      uint64    `json:"seq"`
	Messages []message `json:"messages"`
}

// join is the message, if any, that makes the sender a peer.
func (e *envelope) join() *message {
	for i := range e.Messages {
		if e.Messages[i].Kind == msgJoin {
			return &e.Messages[i]
		}
	}
	return nil
}

// message is one of them. Kind says which fields matter.
type message struct {
	Kind     string            `json:"kind"`
	Peer     string            `json:"peer,omitempty"`
	Instance string            `json:"instance,omitempty"`
	Groups   []string          `json:"groups,omitempty"`
	Resigned []string          `json:"resigned,omitempty"`
	Group    string            `json:"group,omitempty"`
	Members  []memberReport    `json:"members,omitempty"`
	Member   uint64            `json:"member,omitempty"`
	Again    bool              `json:"again,omitempty"`
	Offsets  map[int32][]int64 `json:"offsets,omitempty"`
	Upto     int64             `json:"upto,omitempty"`  // an offset in the fleet's topic
	Nr       uint64            `json:"nr,omitempty"`    // of an ack, for its sender to know it again
	Clock    int64             `json:"clock,omitempty"` // the broker's, as far as the sender has read
	At       int64             `json:"at"`              // the offset up to which the sender had read

	from string     // the peer as which it is said: it is void as another
	done chan error // if set, answered when it is stored
}

type memberReport struct {
	ID     uint64            `json:"id"`
	Window int               `json:"window"`
	Held   map[int32][]int64 `json:"held,omitempty"`
}

const (
	msgJoin     = "join"
	msgBeat     = "beat"
	msgLeave    = "leave"
	msgExpel    = "expel"    // Peer is gone, if it has not been heard of after Upto
	msgAnnounce = "announce" // all groups of the sender; the answer to a join
	msgEnter    = "enter"    // the sender has members of these groups
	msgResign   = "resign"   // and is not to lead any more
	msgExit     = "exit"     // and now has none, and has committed
	msgHello    = "hello"    // to a group's leader: members and what they hold
	msgGrant    = "grant"    // from the leader: records for a member
	msgAck      = "ack"      // to the leader
	msgConfirm  = "confirm"  // from the leader: acks are committed
	msgDrop     = "drop"     // to the leader: a member is gone
)

// say sends messages, in order, as who we are now. The lock is held.
func (f *fleet) say(m ...message) {
	for i := range m {
		m[i].from, m[i].At = f.roster.me, f.roster.applied
	}
	f.out.add(m...)
}

// tell is say for those who do not hold the lock.
func (f *fleet) tell(m ...message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.say(m...)
}

// transmit stores messages until that has succeeded, or their sender is no more.
// Being stored twice does no harm: the sequence number is the same.
func (f *fleet) transmit(all []message) {
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].from == all[0].from {
			n++
		}
		err := f.transmitAs(all[0].from, all[:n])
		for i := range all[:n] {
			if all[i].done != nil {
				all[i].done <- err
			}
		}
		all = all[n:]
	}
}

func (f *fleet) transmitAs(me string, m []message) error {
	if size(m) > mostSaid && len(m) > 1 {
		return errors.Join(f.transmitAs(me, m[:len(m)/2]), f.transmitAs(me, m[len(m)/2:]))
	}
	f.mu.Lock()
	if f.roster.me != me {
		f.mu.Unlock()
		return backend.ErrUnavailable // said by who we were
	}
	f.seq++
	seq := f.seq
	e := envelope{From: me, Seq: seq, Messages: m}
	f.mu.Unlock()
	value, err := json.Marshal(&e)
	if err != nil {
		return err
	}
	batch := beginBatch(nil)
	batch = appendWire(batch, 0, nil, value)
	endBatch(batch, 0, 1, time.Now().UnixMilli())
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		f.mu.Lock()
		if f.roster.me != me {
			f.mu.Unlock()
			return backend.ErrUnavailable
		}
		f.sent[seq] = time.Now()
		f.mu.Unlock()
		if _, _, err := f.c.store(f.c.life, f.tail.at, batch); err == nil {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-f.c.life.Done():
			return backend.ErrClosed
		}
	}
}

// mostSaid is about how many bytes are said in one record, unless it is one message.
const mostSaid = 256 << 10

// size of messages, roughly.
func size(m []message) (n int) {
	for i := range m {
		n += 200 + 32*(len(m[i].Groups)+len(m[i].Resigned))
		for _, o := range m[i].Offsets {
			n += 12 * len(o)
		}
		for _, r := range m[i].Members {
			for _, o := range r.Held {
				n += 12 * len(o)
			}
		}
	}
	return n
}
