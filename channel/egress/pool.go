package egress

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// conn is a connection to one host. It is in a pool's idle list, or in use by
// one attempt.
type conn struct {
	net.Conn
	used  bool      // it has carried an exchange: the other side may close it
	since time.Time // idle since

	// The attempts of one context, see aborts.
	group      *group
	prev, next *conn
}

// pool keeps the connections to one host:port, whatever the URLs on it and
// however often the table changes.
type pool struct {
	addr   string
	dialer *net.Dialer
	slots  chan struct{} // one for each connection in use

	mu      sync.Mutex
	idle    []*conn // most recently used last
	lastUse time.Time
	closed  bool
}

func newPool(addr string, d *net.Dialer, limit int) *pool {
	return &pool{addr: addr, dialer: d, slots: make(chan struct{}, limit), lastUse: time.Now()}
}

// take waits for a place and returns an idle connection, or a new one if there
// is none or fresh is asked for. put or drop gives the place back.
func (p *pool) take(ctx context.Context, deadline time.Time, fresh bool) (*conn, error) {
	select {
	case p.slots <- struct{}{}:
	default:
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if !fresh {
		if c := p.pop(); c != nil {
			return c, nil
		}
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	nc, err := p.dialer.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		<-p.slots
		return nil, fmt.Errorf("%w: %w", ErrDial, err)
	}
	return &conn{Conn: nc}, nil
}

func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// put gives back a connection that is ready for the next exchange.
func (p *pool) put(c *conn) {
	now := time.Now()
	c.used, c.since = true, now
	p.mu.Lock()
	closed := p.closed
	p.lastUse = now
	if !closed {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if closed {
		c.Close()
	}
	<-p.slots
}

// drop closes a connection of which nobody knows what comes next.
func (p *pool) drop(c *conn) {
	c.Close()
	<-p.slots
}

// reap closes what has been idle since before t, and tells whether the pool
// itself has been.
func (p *pool) reap(t time.Time) (unused bool) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && p.idle[n].since.Before(t) {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	unused = len(p.idle) == 0 && len(p.slots) == 0 && p.lastUse.Before(t)
	p.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
	return unused
}

// close ends the idle connections, and those in use when they are given back.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

// aborts closes the connections of attempts whose context has ended. The
// engine passes one long-lived context per subscription: one registration with
// the context serves all its attempts, and an attempt costs a list insertion
// instead of a context.AfterFunc of its own.
type aborts struct {
	mu     sync.RWMutex
	groups map[<-chan struct{}]*group // by Context.Done
}

type group struct {
	mu    sync.Mutex
	ended bool
	first *conn
}

func (a *aborts) group(ctx context.Context) *group {
	done := ctx.Done()
	a.mu.RLock()
	g := a.groups[done]
	a.mu.RUnlock()
	if g != nil {
		return g
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if g = a.groups[done]; g != nil {
		return g
	}
	g = new(group)
	if a.groups == nil {
		a.groups = make(map[<-chan struct{}]*group)
	}
	a.groups[done] = g
	context.AfterFunc(ctx, func() {
		a.mu.Lock()
		delete(a.groups, done)
		a.mu.Unlock()
		g.end()
	})
	return g
}

// enter has c closed when ctx ends; false: it has ended.
func (a *aborts) enter(ctx context.Context, c *conn) bool {
	if ctx.Done() == nil {
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	g := a.group(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	c.group, c.prev, c.next = g, nil, g.first
	if g.first != nil {
		g.first.prev = c
	}
	g.first = c
	return true
}

// leave undoes enter. Once it has returned, the end of the context no longer
// touches c.
func (a *aborts) leave(c *conn) {
	g := c.group
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		g.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.group, c.prev, c.next = nil, nil, nil
}

func (g *group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	for c := g.first; c != nil; c = c.next {
		c.Close()
	}
}

// Inboxes and outboxes are kept apart from connections: an idle connection costs
// no buffers, and one that waits for an answer no outbox. A response's header
// must fit into the reader.
const (
	readerSize = 16 << 10
	outboxSize = 4 << 10
	keepOutbox = 32 << 10 // larger ones are not kept
)

type buffers struct{ inboxes, outboxes sync.Pool }

// inbox is what a response is read with.
type inbox struct {
	reader *bufio.Reader
	header fasthttp.ResponseHeader
	fields []event.Attribute // those of header: parts of it
}

func (b *buffers) inbox() *inbox {
	if in, ok := b.inboxes.Get().(*inbox); ok {
		return in
	}
	in := &inbox{reader: bufio.NewReaderSize(nil, readerSize)}
	in.header.DisableNormalizing()
	in.header.SetNoDefaultContentType(true)
	return in
}

// read reads a header. What was read before is overwritten: event.FromFields
// copies what it keeps.
func (in *inbox) read(r *bufio.Reader) error {
	if err := in.header.Read(r); err != nil {
		return err
	}
	in.fields = in.fields[:0]
	for k, v := range in.header.All() {
		in.fields = append(in.fields, event.Attribute{Name: view(k), Value: view(v)})
	}
	return nil
}

// outbox is what the header of a request is written to, and the body behind it
// if there is room.
type outbox struct{ head []byte }

func (b *buffers) outbox() *outbox {
	if o, ok := b.outboxes.Get().(*outbox); ok {
		o.head = o.head[:0]
		return o
	}
	return &outbox{make([]byte, 0, outboxSize)}
}

func (b *buffers) keep(o *outbox) {
	if cap(o.head) <= keepOutbox {
		b.outboxes.Put(o)
	}
}

func (o *outbox) add(parts ...string) {
	for _, p := range parts {
		o.head = append(o.head, p...)
	}
}

// field adds a header. A line's end in it would begin another one.
func (o *outbox) field(name, value string) {
	start := len(o.head)
	o.add(name, ": ", value)
	for i, c := range o.head[start:] {
		if c == '\r' || c == '\n' {
			o.head[start+i] = ' '
		}
	}
	o.head = append(o.head, "\r\n"...)
}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
