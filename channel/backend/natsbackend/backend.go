package natsbackend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Backend is one connection to JetStream. Connect makes it.
type Backend struct {
	config    Config
	names     names
	nc        *nats.Conn
	js        jetstream.JetStream
	catalog   *catalog
	publisher *publisher
	shards    [shardCount]shard
	entries   crowd         // logs that are being written to the catalog
	gather    time.Duration // gatherLimit
	limits    backend.Limits
	holder    []byte // names this connection in leases

	// deliveries takes what comes for all members; one goroutine hands it on.
	deliveries chan *nats.Msg
	// large limits the records that are fetched although they exceed a
	// member's buffer.
	large chan struct{}
	// unanchored are shards that are used again.
	unanchored chan *shard

	ctx     context.Context //nolint:containedctx // the Backend's life
	stop    context.CancelCauseFunc
	running sync.WaitGroup

	mu      sync.RWMutex
	members map[*nats.Subscription]*member
	closed  bool
}

var _ backend.Backend = (*Backend)(nil)

const (
	// deliveryQueue is the most messages that have arrived and are not yet
	// handed on, a matter of microseconds. What does not fit is dropped by
	// the client library, and comes back after AckWait.
	deliveryQueue = 64 << 10
	// largeAtOnce bounds the memory for records beyond a member's buffer.
	largeAtOnce = 8
	// A broken connection is tried again after reconnectFirst, and then with
	// a doubled pause.
	reconnectFirst = 20 * time.Millisecond
	reconnectMax   = 2 * time.Second
	// pingInterval finds a connection that is cut without a word.
	pingInterval = 10 * time.Second
)

// Connect opens a Backend; Close frees it. ctx bounds the call. A broker that
// cannot be reached is ErrUnavailable. From then on a connection that breaks is
// made again for ever.
func Connect(ctx context.Context, c Config) (*Backend, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b := &Backend{
		config:     c.withDefaults(),
		deliveries: make(chan *nats.Msg, deliveryQueue),
		large:      make(chan struct{}, largeAtOnce),
		unanchored: make(chan *shard, shardCount),
		members:    make(map[*nats.Subscription]*member),
		holder:     []byte(newIncarnation()),
		gather:     gatherLimit,
	}
	b.names.prefix = b.config.Prefix
	b.ctx, b.stop = context.WithCancelCause(context.Background())
	for i := range b.shards {
		b.shards[i].b, b.shards[i].number = b, i
	}
	// A connection that is being made ends with ctx.
	waiting := context.AfterFunc(ctx, func() { b.stop(context.Cause(ctx)) })
	err := b.open(ctx)
	if err == nil && !waiting() {
		err = contextError(ctx)
	}
	if err != nil {
		waiting()
		b.stop(backend.ErrClosed)
		if b.nc != nil {
			b.nc.Close()
		}
		return nil, fmt.Errorf("connect to JetStream: %w", err)
	}
	b.running.Go(b.hand)
	b.running.Go(b.tick)
	b.running.Go(b.anchor)
	return b, nil
}

// open connects, once or until it succeeds.
func (b *Backend) open(ctx context.Context) error {
	for attempts := 0; ; attempts++ {
		err := b.connect(ctx)
		if err == nil {
			return nil
		}
		if b.nc != nil {
			b.nc.Close()
			b.nc = nil
		}
		if !b.config.Persist {
			return err
		}
		b.config.Logger.Warn("JetStream cannot be used yet", "error", err)
		if !sleep(ctx, pause(attempts)) {
			return errors.Join(err, contextError(ctx))
		}
	}
}

// pause before a broken connection is tried again.
func pause(attempts int) time.Duration {
	return min(reconnectFirst<<min(attempts, 10), reconnectMax)
}

func (b *Backend) connect(ctx context.Context) error {
	d := &dialer{config: &b.config, ctx: b.ctx, records: true}
	options, err := b.options(d)
	if err != nil {
		return err
	}
	if b.nc, err = nats.Connect(b.config.URL, options...); err != nil {
		return errors.Join(err, backend.ErrUnavailable)
	}
	d.conn.Store(b.nc)
	b.limits.MaxRecordBytes = int(b.nc.MaxPayload()) - wireOverhead
	if b.limits.MaxRecordBytes <= 0 {
		return fmt.Errorf("the server takes messages of %d bytes at most (max_payload): more than %d are needed",
			b.nc.MaxPayload(), wireOverhead)
	}
	if b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(b.config.RequestTimeout)); err != nil {
		return err
	}
	b.publisher = newPublisher(b.nc, b.config.RequestTimeout, b.takes)
	answers, err := b.nc.Subscribe(b.publisher.inbox+"*", b.publisher.confirm)
	if err == nil {
		err = answers.SetPendingLimits(-1, -1)
	}
	if err != nil {
		return err
	}
	if err = b.watchElections(); err != nil {
		return err
	}
	b.catalog, err = openCatalog(ctx, b.names, b.js, b.config.Replicas, b.config.RequestTimeout)
	if err != nil {
		return err
	}
	if s := b.config.Server; s != nil {
		s.fresh.Do(func() { err = b.catalog.clearLeases(ctx) })
	}
	// Only now: a connection that is given up before has nothing to lose.
	b.nc.SetDisconnectErrHandler(func(_ *nats.Conn, err error) { b.disconnected(err) })
	b.nc.SetReconnectHandler(func(*nats.Conn) { b.reconnected() })
	return err
}

// Dial opens another connection to the same servers, for what is not records. The
// caller closes it.
func (b *Backend) Dial(name string) (*nats.Conn, error) {
	d := &dialer{config: &b.config, ctx: b.ctx}
	options, err := b.options(d)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(b.config.URL, append(options, nats.Name(name))...)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", name, errors.Join(err, backend.ErrUnavailable))
	}
	d.conn.Store(nc)
	return nc, nil
}

// Dial opens a connection to the servers of a Config, for one who needs no Backend. The
// caller closes it.
func Dial(c Config, name string) (*nats.Conn, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b := &Backend{config: c.withDefaults(), ctx: context.Background()}
	return b.Dial(name)
}

func (b *Backend) options(d *dialer) ([]nats.Option, error) {
	o, err := b.config.authentication()
	if err != nil {
		return nil, err
	}
	if b.config.secure() {
		if _, err := b.config.tls(); err != nil {
			return nil, err
		}
		o = append(o, nats.Secure())
	}
	if b.config.Server != nil {
		o = append(o, nats.InProcessServer(d))
	} else {
		o = append(o, nats.SetCustomDialer(d), nats.SkipHostLookup())
	}
	return append(o,
		nats.Name("sidestep"),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(pause),
		// A server that refuses us today may know us tomorrow: secrets are
		// replaced on one side first.
		nats.IgnoreAuthErrorAbort(),
		// While the connection is down a publish fails at once: whoever
		// waits for the confirmation decides what then.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(b.config.RequestTimeout),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.config.Logger.Warn("JetStream connection", "error", err)
		}),
	), nil
}

func (b *Backend) newLease(what string, ttl time.Duration) *lease {
	return &lease{c: b.catalog, subject: b.names.lease(what), holder: b.holder, ttl: ttl}
}

// Limits implements backend.Backend.
func (b *Backend) Limits() backend.Limits { return b.limits }

func (b *Backend) disconnected(err error) {
	if b.ctx.Err() != nil {
		return
	}
	b.config.Logger.Warn("JetStream connection lost", "error", err)
	b.publisher.fail(fmt.Errorf("connection lost before the confirmation: %w", backend.ErrUnavailable), false)
	b.eachMember((*member).disconnected)
}

func (b *Backend) reconnected() {
	b.config.Logger.Info("JetStream connection is back", "server", b.nc.ConnectedServerName())
	// Confirmations of what was sent just before may have been lost after
	// disconnected was called.
	b.eachMember((*member).reconnected)
}

// spawn runs f in a goroutine that Close waits for; false: it is closed.
func (b *Backend) spawn(f func()) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return false
	}
	b.running.Go(f)
	return true
}

// Close implements backend.Backend.
func (b *Backend) Close(ctx context.Context) error {
	b.mu.Lock()
	again := b.closed
	b.closed = true
	b.mu.Unlock()
	if again {
		return nil
	}
	b.eachMember(func(m *member) { m.end(backend.ErrClosed) })
	b.publisher.fail(backend.ErrClosed, true)
	b.stop(backend.ErrClosed)
	b.running.Wait()
	err := b.flush(ctx)
	b.nc.Close()
	return err
}

// flush waits until the broker has what was sent: acks, and what was given
// back.
func (b *Backend) flush(ctx context.Context) error {
	if !b.nc.IsConnected() {
		return nil // what it does not know comes back
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.RequestTimeout)
	defer cancel()
	if err := b.nc.FlushWithContext(ctx); err != nil && b.nc.IsConnected() {
		return fmt.Errorf("close: the last acks may not have arrived: %w", errors.Join(err, backend.ErrUnavailable))
	}
	return nil
}

// hand gives each message to the member that it is for.
func (b *Backend) hand() {
	for {
		select {
		case m := <-b.deliveries:
			b.mu.RLock()
			to := b.members[m.Sub]
			b.mu.RUnlock()
			if to != nil {
				to.arrive(m)
			} else if m.Reply != "" {
				_ = b.nc.Publish(m.Reply, nak) // its member is closed
			}
		case <-b.ctx.Done():
			b.returnAll()
			return
		}
	}
}

// returnAll gives back what has arrived and was not handed on.
func (b *Backend) returnAll() {
	for {
		select {
		case m := <-b.deliveries:
			if m.Reply != "" {
				_ = b.nc.Publish(m.Reply, nak)
			}
		default:
			return
		}
	}
}

// tick has every member look after what it holds and what it asked for.
func (b *Backend) tick() {
	t := time.NewTicker(min(time.Second, b.config.AckWait/6))
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			b.eachMember(func(m *member) { m.tend(now) })
		case <-b.ctx.Done():
			return
		}
	}
}

func (b *Backend) eachMember(f func(*member)) {
	b.mu.RLock()
	all := make([]*member, 0, len(b.members))
	for _, m := range b.members {
		all = append(all, m)
	}
	b.mu.RUnlock()
	for _, m := range all {
		f(m)
	}
}

// endMembers ends those whose group is gone.
func (b *Backend) endMembers(which func(*member) bool) {
	b.eachMember(func(m *member) {
		if which(m) {
			m.end(backend.ErrNotFound)
		}
	})
}

// join begins a member's deliveries.
func (b *Backend) join(m *member) error {
	sub, err := b.nc.ChanSubscribe(m.inbox+"*", b.deliveries)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		_ = sub.Unsubscribe()
		return backend.ErrClosed
	}
	m.sub = sub
	b.members[sub] = m
	return nil
}

// leave ends them. The broker drops what the member had asked for.
func (b *Backend) leave(m *member) {
	b.mu.Lock()
	sub := m.sub
	delete(b.members, sub)
	b.mu.Unlock()
	_ = sub.Unsubscribe()
}

// rejoin gives m another inbox: what was asked for by the old one is dropped.
// With m.mu held.
func (b *Backend) rejoin(m *member) {
	if m.err != nil {
		return
	}
	inbox := nats.NewInbox() + "."
	sub, err := b.nc.ChanSubscribe(inbox+"*", b.deliveries)
	if err != nil {
		return // closed
	}
	b.mu.Lock()
	old := m.sub
	delete(b.members, old)
	b.members[sub] = m
	m.sub, m.inbox, m.unproven = sub, inbox, time.Now()
	b.mu.Unlock()
	_ = old.Unsubscribe()
}
