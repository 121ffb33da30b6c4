package kafkabackend

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
)

// maxResponse bounds what one answer of a broker may take of our memory.
const maxResponse = 256 << 20

// link is one connection to one broker, for one goroutine at a time. After an
// error it is of no more use.
type link struct {
	conn     net.Conn
	r        *bufio.Reader
	versions map[protocol.ApiKey]int16
	client   string
	last     int32 // correlation id
	used     time.Time
	buf      []byte // of raw, kept for the next answer
}

// dialer makes links.
type dialer struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	tls     func() (*tls.Config, error)    // nil: none
	sasl    func() (sasl.Mechanism, error) // nil: none
	client  string
	timeout time.Duration
}

func (d *dialer) connect(ctx context.Context, address string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := d.dial(ctx, "tcp", address)
	if err == nil {
		l := &link{conn: conn, client: d.client, used: time.Now()}
		if err = l.open(ctx, d, address); err == nil {
			return l, nil
		}
		conn.Close()
		err = fmt.Errorf("connect to %s: %w", address, err)
	}
	if ctx.Err() != nil { // which dialing and TLS do not give the cause of
		err = fmt.Errorf("connect to %s: %w", address, contextError(ctx))
	}
	return nil, err
}

func (l *link) open(ctx context.Context, d *dialer, address string) error {
	if d.tls != nil {
		c, err := d.tls()
		if err != nil {
			return err
		}
		c.ServerName, _, _ = net.SplitHostPort(address)
		t := tls.Client(l.conn, c)
		if err := t.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		l.conn = t
	}
	l.r = bufio.NewReaderSize(l.conn, 32<<10)
	m, err := l.roundTrip(ctx, &apiversions.Request{})
	if err != nil {
		return err
	}
	v, _ := m.(*apiversions.Response)
	l.versions = make(map[protocol.ApiKey]int16, len(v.ApiKeys))
	for _, k := range v.ApiKeys {
		if key := protocol.ApiKey(k.ApiKey); known[key] {
			l.versions[key] = key.SelectVersion(k.MinVersion, k.MaxVersion)
		}
	}
	if d.sasl != nil {
		return l.authenticate(ctx, d.sasl, address)
	}
	return nil
}

// authenticate proves who we are (KIP-43, KIP-152).
func (l *link) authenticate(ctx context.Context, mechanism func() (sasl.Mechanism, error), address string) error {
	m, err := mechanism()
	if err != nil {
		return err
	}
	l.versions[protocol.SaslHandshake] = 1 // with frames around what follows
	answer, err := l.roundTrip(ctx, &saslhandshake.Request{Mechanism: m.Name()})
	if err != nil {
		return fmt.Errorf("SASL: %w", err)
	}
	if h, _ := answer.(*saslhandshake.Response); h.ErrorCode != 0 {
		return fmt.Errorf("SASL %s: %w; the broker knows %q", m.Name(), kafka.Error(h.ErrorCode), h.Mechanisms)
	}
	host, port, _ := net.SplitHostPort(address)
	var number int
	_, _ = fmt.Sscan(port, &number)
	state, next, err := m.Start(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: number}))
	for done := false; err == nil && !done; {
		if answer, err = l.roundTrip(ctx, &saslauthenticate.Request{AuthBytes: next}); err != nil {
			break
		}
		a, _ := answer.(*saslauthenticate.Response)
		if a.ErrorCode != 0 {
			return fmt.Errorf("SASL %s: %w", m.Name(), kafka.Error(a.ErrorCode))
		}
		done, next, err = state.Next(ctx, a.AuthBytes)
	}
	if err != nil {
		return fmt.Errorf("SASL %s: %w", m.Name(), err)
	}
	return nil
}

// begin has the link's exchange end with ctx. The caller calls the function
// that it returns in the end.
func (l *link) begin(ctx context.Context) (end func()) {
	l.used = time.Now()
	deadline, _ := ctx.Deadline()
	_ = l.conn.SetDeadline(deadline) // a zero one: never
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	return func() {
		stop()
		l.used = time.Now()
	}
}

func (l *link) send(msg protocol.Message) (version int16, err error) {
	l.last++
	version = l.versions[msg.ApiKey()]
	if p, ok := msg.(protocol.PreparedMessage); ok {
		p.Prepare(version)
	}
	return version, protocol.WriteRequest(l.conn, version, l.last, l.client, msg)
}

func (l *link) roundTrip(ctx context.Context, msg protocol.Message) (protocol.Message, error) {
	defer l.begin(ctx)()
	version, err := l.send(msg)
	if err != nil {
		return nil, l.failed(ctx, err)
	}
	id, answer, err := protocol.ReadResponse(l.r, msg.ApiKey(), version)
	if err == nil && id != l.last {
		err = errOutOfStep
	}
	if err != nil {
		return nil, l.failed(ctx, err)
	}
	return answer, nil
}

var errOutOfStep = errors.New("an answer to another request")

// raw is roundTrip for answers that we read ourselves. What it returns is good
// until the next call.
func (l *link) raw(ctx context.Context, msg protocol.Message) ([]byte, error) {
	defer l.begin(ctx)()
	if _, err := l.send(msg); err != nil {
		return nil, l.failed(ctx, err)
	}
	var head [8]byte
	if _, err := io.ReadFull(l.r, head[:]); err != nil {
		return nil, l.failed(ctx, err)
	}
	n := int(int32(binary.BigEndian.Uint32(head[:]))) - 4
	if id := int32(binary.BigEndian.Uint32(head[4:])); id != l.last || n < 0 || n > maxResponse {
		return nil, l.failed(ctx, errOutOfStep)
	}
	if cap(l.buf) < n || (cap(l.buf) > 1<<20 && n < 64<<10) { // neither too small nor a former giant's
		l.buf = make([]byte, n+n/4)
	}
	if _, err := io.ReadFull(l.r, l.buf[:n]); err != nil {
		return nil, l.failed(ctx, err)
	}
	return l.buf[:n], nil
}

// failed says what ended an exchange: the context, if it did.
func (l *link) failed(ctx context.Context, err error) error {
	l.close()
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	return err
}

func (l *link) close() { l.conn.Close() }
