package egress

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// Request is one event for one target.
type Request struct {
	Target *Target
	Event  *event.Event
	// Namespace is the Subscription's, for the Kn-Namespace header.
	Namespace string
	// PreferReply sends "Prefer: reply": the target is a subscriber.
	PreferReply bool
	// Extra headers, names in lower case.
	Extra []event.Attribute
	// ReplyOwner is the channel, "namespace/name", for whose record the
	// payload of a reply is stored if it is too large for memory.
	ReplyOwner string

	// Fields are the names, in lower case, of the response headers that
	// Result.Fields is to have.
	Fields []string
	// Before tells from these how many bytes stand before the event in the
	// body of a 2xx; they become Result.Before. nil: none do.
	Before func(fields []string) int
	// Quiet ends the attempt when nothing came for so long, informational
	// responses included, before the answer begins. 0: the timeout alone does.
	Quiet time.Duration
}

// Result is what came of an attempt, or of the last one of several.
type Result struct {
	// Status is the HTTP status, 0 if no complete response came.
	Status int
	// Reply is the event that a 2xx other than 202 carried, or nil.
	Reply *event.Event
	// Body is the beginning of a failing response's body, at most
	// MaxErrorBody bytes.
	Body []byte
	// RetryAfter is what a 429 or 503 asked for; 0 if it did not.
	RetryAfter time.Duration
	// Attempts made so far, those before this process included.
	Attempts int
	// Err is nil exactly if Status is a 2xx and its body was understood or
	// is none of our business.
	Err error
	// Fields and Before are what Request.Fields and Request.Before asked for.
	Fields []string
	Before []byte
}

// MaxErrorBody bounds Result.Body, in bytes.
const MaxErrorBody = 1024

// Tried is what was tried already when a delivery begins: nothing, or what a
// chain saw before it spilled the event.
type Tried struct {
	// Attempts made. The policy's first pause has been waited for when
	// NotBefore has passed.
	Attempts  int
	NotBefore time.Time
	// Last is the outcome of the last of them, without a Reply.
	Last Result
}

// Sender makes attempts; *Client is one, and simulations have their own.
type Sender interface {
	// Send makes one attempt. timeout limits it; ctx may end it sooner.
	Send(ctx context.Context, r *Request, format Format, timeout time.Duration) Result
}

// Errors in Result.Err beside those of the network.
var (
	// ErrStatus: the response was not a 2xx.
	ErrStatus = errors.New("not a success")
	// ErrReply: the response was a 2xx with an event in it that cannot be
	// read, or is too large. The step has run; trying again is of no use.
	ErrReply = errors.New("unusable reply")
	// ErrTarget: the URL cannot be sent to.
	ErrTarget = errors.New("unusable target")
	// ErrPayload: the event's data could not be read, or the reply's not be
	// stored. It wraps one of the errors of event.Payload. The step is not to blame.
	ErrPayload = errors.New("payload")
	// ErrDial: there is no connection, and nothing was sent.
	ErrDial = errors.New("cannot connect")
	// ErrClosed: the Client was closed.
	ErrClosed = errors.New("egress client closed")
)

// Config of a Client. The zero value is a sound default.
type Config struct {
	// Payloads takes in what is too large for memory of the replies. nil: they
	// are bounded by MaxReplyBytes.
	Payloads event.PayloadStore
	// MaxReplyBytes bounds the body of a response that has to be in memory:
	// any if there are no Payloads, else one in structured mode. 0: 8 MiB.
	MaxReplyBytes int
	// MaxConnsPerHost bounds the attempts under way to one host and port;
	// more wait, within their timeout. 0: 1024.
	MaxConnsPerHost int
	// DialTimeout bounds the making of a connection. 0: 5 s.
	DialTimeout time.Duration
	// IdleTimeout is how long an unused connection is kept. 0: 90 s.
	IdleTimeout time.Duration
	// Token is the bearer token for a Target that has an Audience and an
	// Identity; it is called for each attempt. nil: there are none.
	Token func(ctx context.Context, identity, audience string) (string, error)
	// TLS is the configuration for https targets with the CACerts, "" for none. nil:
	// the system's authorities and CACerts, from TLS 1.2 on. Forget has it asked
	// again.
	TLS func(caCerts string) (*tls.Config, error)
	// Proxy tells which proxy serves a URL, nil for none, as in
	// http.Transport. A nil func: http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
}

func (c Config) withDefaults() Config {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&c.MaxReplyBytes, 8<<20)
	set(&c.MaxConnsPerHost, 1024)
	if c.DialTimeout <= 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 90 * time.Second
	}
	if c.Proxy == nil {
		c.Proxy = http.ProxyFromEnvironment
	}
	return c
}

// Client sends events over HTTP. Plain http goes through a lean client on
// kept connections; https, whatever a proxy serves, and events whose data is not
// in memory, through net/http. What both make of a response is one piece of code.
// Its methods may be called from any goroutine.
type Client struct {
	Config
	dialer  net.Dialer
	aborts  aborts
	buffers buffers

	mu         sync.RWMutex
	endpoints  map[Target]*endpoint
	pools      map[string]*pool           // by host:port
	transports map[string]*http.Transport // by CACerts
	closed     bool

	stop    chan struct{}
	stopped sync.WaitGroup
}

// endpoint is a Target made ready.
type endpoint struct {
	host, path string
	pool       *pool           // plain http; nil for everything else
	transport  *http.Transport // everything else, and large payloads
	err        error           // the URL is of no use
}

// New makes a Client. Close frees it.
func New(c Config) *Client {
	cl := &Client{
		Config:     c.withDefaults(),
		endpoints:  make(map[Target]*endpoint),
		pools:      make(map[string]*pool),
		transports: make(map[string]*http.Transport),
		stop:       make(chan struct{}),
	}
	cl.dialer.Timeout = cl.DialTimeout
	cl.stopped.Add(1)
	go cl.reap()
	return cl
}

// Close closes the idle connections, and those in use as soon as their attempts
// end. Attempts that begin afterwards fail with ErrClosed.
func (c *Client) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	for _, p := range c.pools {
		p.close()
	}
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
	c.mu.Unlock()
	close(c.stop)
	c.stopped.Wait()
}

// Forget has what is trusted looked at anew: connections with TLS that attempts
// are using are closed when they end.
func (c *Client) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
	c.transports = make(map[string]*http.Transport)
	clear(c.endpoints)
}

// Send makes one attempt. It returns when the response has been read
// completely, when timeout has passed, or when ctx ends.
func (c *Client) Send(ctx context.Context, r *Request, f Format, timeout time.Duration) Result {
	e, err := c.endpoint(r.Target)
	if err != nil {
		return Result{Err: err}
	}
	if c.Token != nil && r.Target.Audience != "" && r.Target.Identity != "" {
		if r, err = c.identified(ctx, r); err != nil {
			return Result{Err: err}
		}
	}
	if e.pool != nil {
		if r.Event.Payload == nil {
			return c.sendLean(ctx, e, r, f, nil, timeout)
		}
		// What is in memory goes as if it had never been elsewhere: one write, no copy.
		if held, ok := r.Event.Payload.(event.Held); ok && !structured(r.Event, f) {
			if data, release := held.Hold(); data != nil {
				defer release()
				return c.sendLean(ctx, e, r, f, data, timeout)
			}
		}
	}
	return c.sendFull(ctx, e, r, f, timeout)
}

// identified is r with the token that its target wants. Trying again is right
// when there is none just now.
func (c *Client) identified(ctx context.Context, r *Request) (*Request, error) {
	token, err := c.Token(ctx, r.Target.Identity, r.Target.Audience)
	if err != nil {
		return nil, fmt.Errorf("post to %s: token for %s: %w", r.Target.Display(), r.Target.Identity, cause(ctx, err))
	}
	with := *r
	with.Extra = append(slices.Clone(r.Extra), event.Attribute{Name: "authorization", Value: "Bearer " + token})
	return &with, nil
}

func (c *Client) endpoint(t *Target) (*endpoint, error) {
	c.mu.RLock()
	e, closed := c.endpoints[*t], c.closed
	c.mu.RUnlock()
	switch {
	case closed:
		return nil, ErrClosed
	case e == nil:
		e = c.addEndpoint(*t)
	}
	return e, e.err
}

func (c *Client) addEndpoint(t Target) *endpoint {
	e := new(endpoint)
	u, err := url.Parse(t.URL)
	switch {
	case err != nil:
		// Without the URL, which the error has in full.
		e.err = fmt.Errorf("%w: %w", ErrTarget, errors.Unwrap(err))
	case u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		e.err = fmt.Errorf("%w: %q is not an absolute http or https URL", ErrTarget, t.Display())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return &endpoint{err: ErrClosed}
	}
	if e.err == nil {
		e.host, e.path = cmp.Or(t.Host, u.Host), u.RequestURI()
		proxy, err := c.Proxy(&http.Request{URL: u})
		if u.Scheme == "http" && proxy == nil && err == nil && u.User == nil {
			e.pool = c.pool(hostPort(u))
		}
		e.transport, e.err = c.transport(t.CACerts)
	}
	c.endpoints[t] = e
	return e
}

// pool is called with c.mu held.
func (c *Client) pool(addr string) *pool {
	p := c.pools[addr]
	if p == nil {
		p = newPool(addr, &c.dialer, c.MaxConnsPerHost)
		c.pools[addr] = p
	}
	return p
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// reap closes idle connections, and forgets hosts that are no longer sent to.
func (c *Client) reap() {
	defer c.stopped.Done()
	tick := time.NewTicker(c.IdleTimeout / 2)
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			return
		case now := <-tick.C:
			c.reapBefore(now.Add(-c.IdleTimeout))
		}
	}
}

func (c *Client) reapBefore(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, p := range c.pools {
		if !p.reap(t) {
			continue
		}
		// Who still holds the pool through an endpoint it has just looked
		// up goes on to use it: its connections are then closed as they
		// are given back.
		delete(c.pools, addr)
		p.close()
		for target, e := range c.endpoints {
			if e.pool == p {
				delete(c.endpoints, target)
			}
		}
	}
}
