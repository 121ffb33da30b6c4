package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/claimcheck"
)

// claimHeader is the internal header of a record whose data is in a store: a
// claim to it, signed, and bound to the log that it is in. The record has no data.
const claimHeader = "sidestep-claim"

// claimHeaderSize is the most that the header counts in a record.
const claimHeaderSize = len(claimHeader) + claimcheck.MaxHeader + 4

// The parts of a hand-over by reference: the attribute (CloudEvents, Dataref
// extension) and the header that tells ours from one that a client sent.
const (
	dataref        = "dataref"
	referenceField = "sidestep-claim"
)

// Defaults of ClaimsConfig.
const (
	DefaultThreshold     = 256 << 10
	DefaultMaxEventBytes = 5 << 30
	DefaultLinkTTL       = time.Hour
)

// ClaimsConfig is how payloads that are too large for a log are kept. Room is
// required.
type ClaimsConfig struct {
	Room *claimcheck.Checkroom
	// Threshold is the most bytes of data that travel in a record. 0: 256 KiB.
	Threshold int
	// MaxEventBytes is the most bytes of data that are taken at all. 0: 5 GiB.
	MaxEventBytes int64
	// LinkBase is the URL at which links are served, without a path and
	// without a slash at its end. "": nothing is handed over by reference.
	LinkBase string
	// LinkTTL is how long a link may be used. 0: 1 hour.
	LinkTTL time.Duration
}

// Claims stores the data of events that are too large for a log. It is the
// event.PayloadStore of ingress and egress, and what the Dispatcher carries
// payloads from record to record with.
type Claims struct {
	room   *claimcheck.Checkroom
	config atomic.Pointer[ClaimsConfig]
}

var (
	_ event.PayloadStore = (*Claims)(nil)
	_ event.Buffering    = (*Claims)(nil)
)

// NewClaims makes Claims. There is nothing to close: the Checkroom's stores are
// their owner's.
func NewClaims(c ClaimsConfig) (*Claims, error) {
	if c.Room == nil {
		return nil, errors.New("configure claims: no checkroom")
	}
	claims := &Claims{room: c.Room}
	if err := claims.set(c); err != nil {
		return nil, err
	}
	return claims, nil
}

// SetLimits changes what ClaimsConfig says of threshold, most bytes of an event, and time
// of a link, from the next event on. An error changes nothing.
func (c *Claims) SetLimits(threshold int, maxEventBytes int64, linkTTL time.Duration) error {
	next := *c.config.Load()
	next.Threshold, next.MaxEventBytes, next.LinkTTL = threshold, maxEventBytes, linkTTL
	return c.set(next)
}

func (c *Claims) set(config ClaimsConfig) error {
	if config.Threshold == 0 {
		config.Threshold = DefaultThreshold
	}
	if config.MaxEventBytes == 0 {
		config.MaxEventBytes = DefaultMaxEventBytes
	}
	if config.LinkTTL == 0 {
		config.LinkTTL = DefaultLinkTTL
	}
	if config.Threshold < 0 || config.MaxEventBytes < int64(config.Threshold) {
		return fmt.Errorf("configure claims: threshold of %d bytes and at most %d bytes an event: want 0 < threshold <= most",
			config.Threshold, config.MaxEventBytes)
	}
	c.config.Store(&config)
	return nil
}

// Threshold implements event.PayloadStore.
func (c *Claims) Threshold() int { return c.config.Load().Threshold }

// Limit implements event.PayloadStore.
func (c *Claims) Limit() int64 { return c.config.Load().MaxEventBytes }

// Memory implements event.Buffering.
func (c *Claims) Memory(length int64) int64 { return c.room.Memory(length) }

// Store implements event.PayloadStore.
func (c *Claims) Store(ctx context.Context, in event.Incoming) (event.Payload, error) {
	p := claimcheck.Payload{
		Owner: in.Owner, ContentType: in.ContentType, Head: in.Head, Rest: in.Rest, Length: in.Length, Limit: c.config.Load().MaxEventBytes,
	}
	if len(p.ContentType) > claimcheck.MaxContentType {
		p.ContentType = "" // the event has it; a link is served without
	}
	if same, ok := in.Same.(*claimed); ok {
		p.Same = &same.claim
	}
	claim, err := c.room.Store(ctx, p)
	if err != nil {
		return nil, payloadError(err)
	}
	return &claimed{claims: c, claim: claim}, nil
}

// claimed is a payload in a store.
type claimed struct {
	claims *Claims
	claim  claimcheck.Claim
	link   atomic.Pointer[link] // the last one that was made
}

// link is a URL at which a payload can be read for a while.
type link struct {
	url, field string
	made       time.Time
}

func (p *claimed) Size() int64 { return p.claim.Size }

// Hold implements event.Held.
func (p *claimed) Hold() (data []byte, release func()) { return p.claims.room.Hold(p.claim) }

func (p *claimed) Open(ctx context.Context) (io.ReadCloser, error) {
	r, err := p.claims.room.Open(ctx, p.claim)
	if err != nil {
		return nil, payloadError(err)
	}
	if at, ok := r.(event.Chunked); ok {
		return &openedChunks{opened{r}, at}, nil
	}
	return &opened{r}, nil
}

type opened struct{ io.ReadCloser }

func (o *opened) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a wrapped io.EOF is an error
		err = payloadError(err)
	}
	return n, err
}

// openedChunks is one whose bytes are at hand.
type openedChunks struct {
	opened
	chunks event.Chunked
}

func (o *openedChunks) Next(most int) ([]byte, error) {
	p, err := o.chunks.Next(most)
	if err != nil && err != io.EOF { //nolint:errorlint // as above
		err = payloadError(err)
	}
	return p, err
}

// payloadError adds what a program can act on to an error of claimcheck.
func payloadError(err error) error {
	kind := error(nil)
	switch {
	case errors.Is(err, claimcheck.ErrNotFound), errors.Is(err, claimcheck.ErrCorrupt):
		kind = event.ErrPayloadGone
	case errors.Is(err, claimcheck.ErrTooLarge):
		kind = event.ErrPayloadTooLarge
	case errors.Is(err, claimcheck.ErrLength):
		kind = event.ErrPayloadLength
	case errors.Is(err, claimcheck.ErrSlow):
		kind = event.ErrPayloadSlow
	case errors.Is(err, claimcheck.ErrFull):
		kind = event.ErrPayloadFull
	case errors.Is(err, claimcheck.ErrUnavailable):
		kind = event.ErrPayloadUnavailable
	default:
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// lost is a payload whose claim is no good.
type lost struct{ why error }

func (lost) Size() int64 { return 0 }

func (l lost) Open(context.Context) (io.ReadCloser, error) { return nil, l.why }

// claim reads the claim of a record of log into e. A record that has one which
// is not ours is taken as it is; if it has no data, the claim is all it had,
// and to deliver it empty would be to lose it unseen.
func (d *Dispatcher) claim(rec *backend.Record, log string, e *event.Event) {
	value := ""
	for i := range rec.Header {
		if rec.Header[i].Name == claimHeader {
			value = rec.Header[i].Value
			break
		}
	}
	if value == "" {
		return
	}
	if d.Claims == nil {
		e.Payload = lost{fmt.Errorf("%w: no claim check is configured", event.ErrPayloadUnavailable)}
		return
	}
	claim, err := d.Claims.room.ParseHeader(value, log)
	switch {
	case err == nil:
		e.Payload, e.Data = &claimed{claims: d.Claims, claim: claim}, nil
	case len(e.Data) == 0:
		e.Payload = lost{fmt.Errorf("%w: %w", event.ErrPayloadGone, err)}
	default:
		d.Logger.Warn("ignoring a claim", "log", log, "event", e.ID, "source", e.Source, "error", err)
	}
}

// record is e as channel c's log takes it. Its payload is kept for as long as the
// record may be there.
func (d *Dispatcher) record(ctx context.Context, c *Channel, e *event.Event, extra ...backend.Header) (backend.Record, error) {
	if e.Payload == nil {
		return event.ToRecord(e, extra...), nil
	}
	p, ok := e.Payload.(*claimed)
	if !ok {
		return backend.Record{}, fmt.Errorf("%w: it has no claim", event.ErrPayloadGone)
	}
	claim, err := p.claims.room.Carry(ctx, p.claim, c.log)
	if err != nil {
		return backend.Record{}, payloadError(err)
	}
	value, err := p.claims.room.Header(claim)
	if err != nil {
		return backend.Record{}, err
	}
	return event.ToRecord(e, append(extra, backend.Header{Name: claimHeader, Value: value})...), nil
}

// rehome stores the payload of e anew if it cannot be shared with channel c, which
// is in another namespace than the one that it was stored for.
func (d *Dispatcher) rehome(ctx context.Context, c *Channel, e *event.Event) (*event.Event, error) {
	p, ok := e.Payload.(*claimed)
	if !ok || p.claim.Namespace() == c.Namespace {
		return e, nil
	}
	from, err := p.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	copied, err := p.claims.Store(ctx, event.Incoming{
		Owner: c.log, ContentType: p.claim.ContentType, Rest: from, Length: p.claim.Size,
	})
	if err != nil {
		return nil, err
	}
	moved := *e
	moved.Payload = copied
	return &moved, nil
}

// byReference is e with a link instead of its payload, the link, and the headers
// that say so; e itself where it has to be handed over by value.
func (c *Claims) byReference(ctx context.Context, e *event.Event) (*event.Event, string, []event.Attribute, error) {
	p, ok := e.Payload.(*claimed)
	// A client's own dataref is not ours to replace.
	if !ok || c == nil || c.config.Load().LinkBase == "" || e.Get(dataref) != "" {
		return e, "", nil, nil
	}
	l, err := p.refer(ctx)
	if err != nil {
		return nil, "", nil, payloadError(err)
	}
	referring := e.With(event.Attribute{Name: dataref, Value: l.url})
	referring.Payload = nil
	return referring, l.url, []event.Attribute{{Name: referenceField, Value: l.field}}, nil
}

// linkShare is the part of a link's time during which it is handed out again: to
// the steps of a chain that pass it on.
const linkShare = 60

// refer is a link to the payload.
func (p *claimed) refer(ctx context.Context) (*link, error) {
	c := p.claims.config.Load()
	if l := p.link.Load(); l != nil && time.Since(l.made) < c.LinkTTL/linkShare {
		return l, nil
	}
	made := time.Now()
	path, err := p.claims.room.Link(ctx, p.claim, c.LinkTTL)
	if err != nil {
		return nil, err
	}
	l := &link{c.LinkBase + path, fmt.Sprintf("size=%d;sha256=%x", p.claim.Size, p.claim.SHA256), made}
	p.link.Store(l)
	return l, nil
}

// returned undoes byReference for an answer that refers to what its step was
// handed: the payload was passed on unchanged.
func returned(reply, sent *event.Event, link string) *event.Event {
	if reply == nil || link == "" || reply.Size() > 0 || reply.Get(dataref) != link {
		return reply
	}
	passed := *reply
	passed.Attributes = nil
	for _, a := range reply.Attributes {
		if a.Name != dataref {
			passed.Attributes = append(passed.Attributes, a)
		}
	}
	passed.Payload = sent.Payload
	return &passed
}
