package backendtest

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
)

type mutant struct {
	spoil    func(backend.Backend) backend.Backend
	caughtBy []string
}

var mutants = map[string]mutant{
	"Publish claims what it did not store": {
		faults(faultbackend.Rule{Op: faultbackend.Publish, First: 2, Fault: faultbackend.Fault{Do: faultbackend.Drop}}),
		[]string{
			"no group misses a record", "nothing published after EnsureGroup is missed",
			"the same event twice is not taken for one", "concurrent publishers lose nothing",
			"a broker restart in mid-stream loses nothing", "one key does not leave its order",
			"no history of calls loses a record or brings back a settled one",
		},
	},
	"Publish stores twice": {
		faults(every(faultbackend.Publish, 1, faultbackend.Fault{Do: faultbackend.Duplicate})),
		[]string{"no record goes to two members", "the same Dedup is not stored twice", "the same event twice is not taken for one"},
	},
	"Publish has its own idea of errors": {
		func(b backend.Backend) backend.Backend { return &plainErrors{b} },
		[]string{
			"Publish to a missing log does not succeed", "a record above the maximum size is not stored",
			"a sealed log takes no record", "a refused record does not take others with it", "a closed backend does nothing more",
		},
	},
	"Publish outlives its context": {
		func(b backend.Backend) backend.Backend { return &bareContext{b} },
		[]string{"a cancelled Publish does not claim success"},
	},
	"an ack is lost": {
		faults(every(faultbackend.Ack, 1, faultbackend.Fault{Do: faultbackend.Drop})),
		[]string{
			"acked records do not come back after reopening", "an ack does not settle earlier records",
			"acks in any order settle no other", "a broker restart does not bring back what was acked",
			"Lag does not forget or invent records",
		},
	},
	"a record is received twice": {
		faults(faultbackend.Rule{Op: faultbackend.Receive, First: 2, Last: 20, Fault: faultbackend.Fault{Do: faultbackend.Duplicate}}),
		[]string{"no record goes to two members", "one key does not leave its order"},
	},
	"a record is fetched and lost": {
		faults(faultbackend.Rule{Op: faultbackend.Receive, First: 3, Fault: faultbackend.Fault{Do: faultbackend.Drop}}),
		[]string{"no group misses a record", "one key does not leave its order"},
	},
	"a cancelled Receive takes a record with it": {
		func(b backend.Backend) backend.Backend {
			return &spoiltSubs{b, func() subMutant { return &forgetfulReceive{} }}
		},
		[]string{"a cancelled Receive loses nothing"},
	},
	"who rests is forgotten": {
		func(b backend.Backend) backend.Backend {
			return &spoiltSubs{b, func() subMutant { return &soundSleeper{} }}
		},
		[]string{
			"a member at rest is woken for each record", "a member at rest is woken for what comes back",
			"a member at rest is woken when its subscription ends",
		},
	},
	"Close gives nothing back": {
		faults(every(faultbackend.CloseSubscription, 1, faultbackend.Fault{Do: faultbackend.Drop})),
		[]string{
			"unacked records are not lost by closing the subscription", "unacked records are not kept from a waiting member",
			"a member that closes does not break the order", "Receive does not outlive its subscription",
		},
	},
	"Seal does nothing":        {faults(every(faultbackend.Seal, 1, faultbackend.Fault{Do: faultbackend.Drop})), []string{"a sealed log takes no record"}},
	"DeleteLog does nothing":   {faults(every(faultbackend.DeleteLog, 1, faultbackend.Fault{Do: faultbackend.Drop})), []string{"a log deleted and made again is not the same", "deleting the log does not leave Receive waiting", "Publish to a missing log does not succeed"}},
	"DeleteGroup does nothing": {faults(every(faultbackend.DeleteGroup, 1, faultbackend.Fault{Do: faultbackend.Drop})), []string{"deleting the group does not leave Receive waiting", "deleting what is missing does not fail"}},
	"groups start when first used": {
		func(b backend.Backend) backend.Backend { return &lazyGroups{Backend: b} },
		[]string{"nothing published after EnsureGroup is missed"},
	},
	"an ack settles all before it": {
		func(b backend.Backend) backend.Backend {
			return &spoiltSubs{b, func() subMutant { return &prefixAck{} }}
		},
		[]string{"an ack does not settle earlier records", "acks in any order settle no other"},
	},
	"the window is a suggestion": {
		func(b backend.Backend) backend.Backend { return &wideWindow{b} },
		[]string{"the window is not exceeded"},
	},
	"logs have no order": {
		func(b backend.Backend) backend.Backend { return &unordered{b} },
		[]string{"a member that closes does not break the order", "a killed member does not break the order", "a cut member does not break the order"},
	},
	"names are folded": {
		func(b backend.Backend) backend.Backend { return &foldedNames{b} },
		[]string{"no two log names are one log"},
	},
	"header names are folded": {
		func(b backend.Backend) backend.Backend { return &foldedHeaders{b} },
		[]string{"no byte of a record is changed"},
	},
	"Dedup counts for all logs": {
		func(b backend.Backend) backend.Backend { return &globalDedup{Backend: b, seen: make(map[string]bool)} },
		[]string{"equal Dedup of two logs does not drop", "Dedup of a former incarnation does not drop"},
	},
}

// plainErrors hides the sentinels.
type plainErrors struct{ backend.Backend }

func (m *plainErrors) Publish(ctx context.Context, log string, r *backend.Record) error {
	if err := m.Backend.Publish(ctx, log, r); err != nil {
		return errors.New(err.Error())
	}
	return nil
}

// bareContext reports only the context's error.
type bareContext struct{ backend.Backend }

func (m *bareContext) Publish(ctx context.Context, log string, r *backend.Record) error {
	if err := m.Backend.Publish(ctx, log, r); ctx.Err() == nil {
		return err
	}
	return ctx.Err()
}

// lazyGroups makes a group only when it is first subscribed to.
type lazyGroups struct{ backend.Backend }

func (m *lazyGroups) EnsureGroup(context.Context, string, backend.Group) error { return nil }

func (m *lazyGroups) Subscribe(
	ctx context.Context, log, group string, o backend.Options,
) (backend.Subscription, error) {
	if err := m.Backend.EnsureGroup(ctx, log, backend.Group{Name: group}); err != nil {
		return nil, err
	}
	return m.Backend.Subscribe(ctx, log, group, o)
}

type subMutant interface {
	backend.Subscription
	wrap(backend.Subscription)
}

// spoiltSubs spoils subscriptions.
type spoiltSubs struct {
	backend.Backend
	spoil func() subMutant
}

func (m *spoiltSubs) Subscribe(
	ctx context.Context, log, group string, o backend.Options,
) (backend.Subscription, error) {
	s, err := m.Backend.Subscribe(ctx, log, group, o)
	if err != nil {
		return nil, err
	}
	spoilt := m.spoil()
	spoilt.wrap(s)
	return spoilt, nil
}

// prefixAck is Kafka's commit taken for an ack.
type prefixAck struct {
	backend.Subscription
	mu   sync.Mutex
	held []*backend.Delivery
}

func (m *prefixAck) wrap(s backend.Subscription) { m.Subscription = s }

func (m *prefixAck) Receive(ctx context.Context) (*backend.Delivery, error) {
	d, err := m.Subscription.Receive(ctx)
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.held = append(m.held, d)
	}
	return d, err
}

func (m *prefixAck) Ack(d *backend.Delivery) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.held {
		if h.Offset <= d.Offset {
			_ = m.Subscription.Ack(h)
		}
	}
	return nil
}

type forgetfulReceive struct{ backend.Subscription }

func (m *forgetfulReceive) wrap(s backend.Subscription) { m.Subscription = s }

func (m *forgetfulReceive) Receive(ctx context.Context) (*backend.Delivery, error) {
	d, err := m.Subscription.Receive(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return d, err
}

// soundSleeper wakes nobody.
type soundSleeper struct{ backend.Subscription }

func (m *soundSleeper) wrap(s backend.Subscription) { m.Subscription = s }

func (m *soundSleeper) Rest(func()) bool {
	return m.Subscription.(backend.Rester).Rest(func() {})
}

type wideWindow struct{ backend.Backend }

func (m *wideWindow) Subscribe(
	ctx context.Context, log, group string, o backend.Options,
) (backend.Subscription, error) {
	o.Window++
	return m.Backend.Subscribe(ctx, log, group, o)
}

type unordered struct{ backend.Backend }

func (m *unordered) EnsureLog(ctx context.Context, l backend.Log) (backend.Incarnation, error) {
	l.Ordered = false
	return m.Backend.EnsureLog(ctx, l)
}

// foldedNames takes '.' for '/', as a subject made of a log's name might.
type foldedNames struct{ backend.Backend }

func (m *foldedNames) EnsureLog(ctx context.Context, l backend.Log) (backend.Incarnation, error) {
	l.Name = strings.ReplaceAll(l.Name, "/", ".")
	return m.Backend.EnsureLog(ctx, l)
}

func (m *foldedNames) EnsureGroup(ctx context.Context, log string, g backend.Group) error {
	return m.Backend.EnsureGroup(ctx, strings.ReplaceAll(log, "/", "."), g)
}

func (m *foldedNames) Publish(ctx context.Context, log string, r *backend.Record) error {
	return m.Backend.Publish(ctx, strings.ReplaceAll(log, "/", "."), r)
}

type foldedHeaders struct{ backend.Backend }

func (m *foldedHeaders) Publish(ctx context.Context, log string, r *backend.Record) error {
	folded := *r
	folded.Header = nil
	for _, h := range r.Header {
		folded.Header = append(folded.Header, backend.Header{Name: strings.ToLower(h.Name), Value: h.Value})
	}
	return m.Backend.Publish(ctx, log, &folded)
}

type globalDedup struct {
	backend.Backend
	mu   sync.Mutex
	seen map[string]bool
}

func (m *globalDedup) Publish(ctx context.Context, log string, r *backend.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Dedup != "" && m.seen[r.Dedup] {
		return nil
	}
	m.seen[r.Dedup] = true
	return m.Backend.Publish(ctx, log, r)
}
