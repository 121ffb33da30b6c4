package natsbackend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Publish implements backend.Publisher.
func (b *Backend) Publish(ctx context.Context, log string, r *backend.Record) error {
	size := r.Size()
	if size > b.limits.MaxRecordBytes {
		return fmt.Errorf("publish %d bytes, %d at most: %w", size, b.limits.MaxRecordBytes, backend.ErrTooLarge)
	}
	if s := b.config.Server; s != nil {
		if err := s.disk.inside(); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	e, err := b.catalog.lookup(ctx, log)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if e.State == live {
		b.shards[e.shard].use(size)
		err = b.publisher.publish(ctx, e, r)
		if !errors.Is(err, errNobody) {
			return err
		}
	}
	return b.publishAnew(ctx, log, r)
}

// takes asks whether a log still takes records. A publish that comes to one node of
// a cluster while another takes the log's subject away is answered by neither.
func (b *Backend) takes(ctx context.Context, e entry) error {
	ctx, cancel := context.WithTimeout(ctx, doubtAfter)
	defer cancel()
	now, err := b.catalog.read(ctx, e.Name)
	if err == nil && (now.State != live || now.Incarnation != e.Incarnation) {
		return fmt.Errorf("publish to log %q: no confirmation, and it takes none any more: %w", e.Name, backend.ErrUnavailable)
	}
	return nil
}

// publishAnew is for when the stream does not take the log's subject, or what
// was last seen of the log says that it would not: the catalog tells why.
func (b *Backend) publishAnew(ctx context.Context, log string, r *backend.Record) error {
	e, err := b.catalog.fetch(ctx, log)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if e.State == sealed {
		return fmt.Errorf("publish to log %q: %w", log, backend.ErrSealed)
	}
	// The log lives. It lacks its subject if whoever made it died at that,
	// and this adds it; if all is there, JetStream is away.
	if err := b.shards[e.shard].add(ctx, e.subject); err != nil {
		return fmt.Errorf("publish to log %q: %w", log, err)
	}
	if err = b.publisher.publish(ctx, e, r); errors.Is(err, errNobody) {
		err = fmt.Errorf("publish to log %q: %w", log, errors.Join(err, backend.ErrUnavailable))
	}
	return err
}

// Room implements backend.Publisher. All logs of an embedded server are on one disk.
func (b *Backend) Room(string) error {
	if s := b.config.Server; s != nil {
		return s.disk.outside()
	}
	return nil
}

// errNobody: no stream takes that subject.
var errNobody = errors.New("no stream takes the subject")

// publisher sends records and waits for each one's confirmation; many are
// under way at once. It stands in for the client library's publisher, which
// costs several allocations and a timer for each.
type publisher struct {
	nc      *nats.Conn
	inbox   string // with a trailing dot
	timeout time.Duration
	// takes is asked whether a log can take the record, after doubtAfter.
	takes func(context.Context, entry) error

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]*pending
	err     error // set when closed
}

// pending is a record that has been sent. Whoever takes it out of
// publisher.waiting answers it; so it can be used again afterwards.
type pending struct {
	answered chan error // one place
	timer    *time.Timer
	buf      []byte
}

var pendings = sync.Pool{New: func() any {
	p := &pending{answered: make(chan error, 1), timer: time.NewTimer(time.Hour)}
	p.timer.Stop()
	return p
}}

// keepBuffer is the most that is kept of a buffer for the next record.
const keepBuffer = 64 << 10

func newPublisher(nc *nats.Conn, timeout time.Duration, takes func(context.Context, entry) error) *publisher {
	return &publisher{
		nc: nc, inbox: nats.NewInbox() + ".", timeout: timeout, takes: takes, waiting: make(map[uint64]*pending),
	}
}

// doubtAfter is how long a confirmation may take before it is asked whether one can
// come at all.
const doubtAfter = time.Second

// publish returns nil when the broker has confirmed.
func (p *publisher) publish(ctx context.Context, e entry, r *backend.Record) error {
	w, _ := pendings.Get().(*pending)
	defer w.recycle()
	var headers int
	w.buf, headers = appendMessage(w.buf[:0], e.Incarnation, r)
	n, err := p.enter(w)
	if err != nil {
		return err
	}
	if err := p.nc.PublishRequest(e.subject, p.reply(n, headers), w.buf); err != nil {
		if p.take(n) == nil {
			<-w.answered
		}
		return sendError(err)
	}
	return p.wait(ctx, n, w, e)
}

// reply is where the confirmation goes, and for wire how many bytes of the message
// are headers.
func (p *publisher) reply(n uint64, headers int) string {
	var buf [64]byte
	r := strconv.AppendUint(append(buf[:0], p.inbox...), n, 36)
	if headers > 0 {
		r = strconv.AppendInt(append(r, mark), int64(headers), 10)
	}
	return string(r)
}

func (w *pending) recycle() {
	w.timer.Stop()
	if cap(w.buf) > keepBuffer {
		w.buf = nil
	}
	pendings.Put(w)
}

func sendError(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("publish: %w", backend.ErrTooLarge)
	}
	if errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("publish: %w", backend.ErrClosed)
	}
	return fmt.Errorf("publish: %w", errors.Join(err, backend.ErrUnavailable))
}

func (p *publisher) enter(w *pending) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, fmt.Errorf("publish: %w", p.err)
	}
	p.next++
	p.waiting[p.next] = w
	return p.next, nil
}

func (p *publisher) take(n uint64) *pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[n]
	delete(p.waiting, n)
	return w
}

func (p *publisher) wait(ctx context.Context, n uint64, w *pending, e entry) error {
	first := min(doubtAfter, p.timeout)
	w.timer.Reset(first)
	var err error
	for doubted := false; err == nil; doubted = true {
		select {
		case err = <-w.answered:
			return err
		case <-ctx.Done():
			err = fmt.Errorf("publish: %w", contextError(ctx))
		case <-w.timer.C:
			if doubted || first == p.timeout {
				err = fmt.Errorf("publish: no confirmation within %v: %w", p.timeout, backend.ErrUnavailable)
				break
			}
			err = p.takes(ctx, e)
			w.timer.Reset(p.timeout - first)
		}
	}
	if p.take(n) == nil {
		return <-w.answered // it came at the same moment
	}
	return err
}

// confirm is called with each message that comes to the inbox.
func (p *publisher) confirm(m *nats.Msg) {
	n, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, p.inbox), 36, 64)
	if err != nil {
		return
	}
	if w := p.take(n); w != nil {
		w.answered <- confirmation(m)
	}
}

// confirmation reads a PubAck (NATS ADR-22) or a "no responders" status.
func confirmation(m *nats.Msg) error {
	if bytes.HasPrefix(m.Data, []byte(`{"stream":`)) && !bytes.Contains(m.Data, []byte(`"error":`)) {
		return nil
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return errNobody
	}
	var a struct {
		Stream string `json:"stream"`
		Error  *struct {
			Code int    `json:"err_code"`
			Text string `json:"description"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &a); {
	case err != nil:
		return fmt.Errorf("publish: confirmation %.100q: %w", m.Data, backend.ErrUnavailable)
	case a.Error != nil:
		return fmt.Errorf("publish: %w", apiError(a.Error.Code, a.Error.Text))
	case a.Stream == "":
		return fmt.Errorf("publish: confirmation %.100q: %w", m.Data, backend.ErrUnavailable)
	}
	return nil
}

// fail answers all that wait: their confirmations are lost with a connection.
// With a final error, all that come later get it too.
func (p *publisher) fail(err error, final bool) {
	p.mu.Lock()
	lost := p.waiting
	p.waiting = make(map[uint64]*pending)
	if final {
		p.err = err
	}
	p.mu.Unlock()
	for _, w := range lost {
		w.answered <- fmt.Errorf("publish: %w", err)
	}
}
