package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// transport is called with c.mu held.
func (c *Client) transport(caCerts string) (*http.Transport, error) {
	if t := c.transports[caCerts]; t != nil {
		return t, nil
	}
	trust := c.TLS
	if trust == nil {
		trust = systemTLS
	}
	cfg, err := trust(caCerts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	t := &http.Transport{
		Proxy:                  c.Proxy,
		DialContext:            c.dialWide,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    c.DialTimeout,
		ForceAttemptHTTP2:      true,
		MaxConnsPerHost:        c.MaxConnsPerHost,
		MaxIdleConnsPerHost:    c.MaxConnsPerHost,
		IdleConnTimeout:        c.IdleTimeout,
		MaxResponseHeaderBytes: readerSize,
		DisableCompression:     true,
	}
	c.transports[caCerts] = t
	return t, nil
}

func systemTLS(caCerts string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if caCerts == "" {
		return cfg, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // no system pool: the given ones alone
	}
	if !roots.AppendCertsFromPEM([]byte(caCerts)) {
		return nil, errors.New("CACerts hold no PEM certificate")
	}
	cfg.RootCAs = roots
	return cfg, nil
}

// sendFull makes one attempt through net/http.
func (c *Client) sendFull(ctx context.Context, e *endpoint, r *Request, f Format, timeout time.Duration) Result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, heard := whileHeard(ctx, r.Quiet)
	defer heard()
	header := make(http.Header, 8+len(r.Event.Attributes)+len(r.Event.Transport))
	header.Set("User-Agent", "") // none, as on the lean path
	// Not sent: it tells the transport that it may send again when a kept
	// connection turns out to be closed, see errStale.
	header["Idempotency-Key"] = nil
	m := newOutgoing(message(header.Add, r, f), r.Event, f)
	body, err := m.open(ctx)
	if err != nil {
		return Result{Err: fmt.Errorf("post to %s: %w", r.Target.Display(), cause(ctx, err))}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Target.URL, body)
	if err != nil {
		body.Close()
		return Result{Err: fmt.Errorf("%w: %w", ErrTarget, err)}
	}
	req.Header, req.ContentLength, req.Host = header, m.length, e.host
	req.GetBody = func() (io.ReadCloser, error) { return m.open(ctx) }
	if u := req.URL.User; u != nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	// RoundTrip and not Client.Do: redirects are not followed.
	resp, err := e.transport.RoundTrip(req)
	heard() // the answer has begun
	if err == nil {
		defer resp.Body.Close()
	}
	// Whatever came of it: a receiver that has not seen all of the data has not
	// got the event.
	if broken := m.broken(); broken != nil {
		return Result{Err: fmt.Errorf("post to %s: %w", r.Target.Display(), broken)}
	}
	if err != nil {
		err = cause(ctx, err)
		if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
			err = errors.Join(ErrDial, err)
		}
		return Result{Err: fmt.Errorf("post to %s: %w", r.Target.Display(), err)}
	}
	return c.fullResult(ctx, r, resp)
}

func (c *Client) fullResult(ctx context.Context, r *Request, resp *http.Response) Result {
	a := answer{
		status:     resp.StatusCode,
		retryAfter: resp.Header.Get("Retry-After"),
		header:     fullHeader(resp.Header),
	}
	var fields []string
	for _, name := range r.Fields {
		fields = append(fields, resp.Header.Get(name))
	}
	var before []byte
	var err error
	if mayReply(resp.StatusCode) {
		if before, err = readBefore(r, fields, resp.Body); err != nil {
			return Result{Err: fmt.Errorf("post to %s: read response: %w", r.Target.Display(), cause(ctx, err))}
		}
		length := resp.ContentLength
		if length >= 0 {
			length -= int64(len(before))
		}
		var t taken
		t, err = c.takeBody(ctx, r, a.header, resp.Body, length)
		a.body, a.reply, a.tooBig = t.data, t.reply, t.tooBig
	} else {
		a.body, _, err = readStart(resp.Body, resp.ContentLength)
	}
	if err != nil {
		return Result{Err: fmt.Errorf("post to %s: read response: %w", r.Target.Display(), cause(ctx, err))}
	}
	res := result(a, r.Event)
	res.Fields, res.Before = fields, before
	return res
}

// errQuiet is why an attempt ends whose other side gives no sign of life.
var errQuiet = errors.New("no sign of life")

// whileHeard is a context that ends when no informational response came for so
// long; 0: never. stop ends the watch, and may be called again.
func whileHeard(ctx context.Context, quiet time.Duration) (_ context.Context, stop func()) {
	if quiet <= 0 {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var (
		mu    sync.Mutex
		over  bool
		timer *time.Timer
	)
	listen := func() {
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		if !over {
			timer = time.AfterFunc(quiet, func() { cancel(errQuiet) })
		}
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { listen() },
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			listen()
			return nil
		},
	})
	return ctx, func() {
		mu.Lock()
		over = true
		mu.Unlock()
		listen()
	}
}

func fullHeader(h http.Header) []event.Attribute {
	fields := make([]event.Attribute, 0, len(h))
	for k, vs := range h {
		for _, v := range vs {
			fields = append(fields, event.Attribute{Name: k, Value: v})
		}
	}
	return fields
}

// cause prefers why the context ended over what came of it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return errors.Join(c, err)
	}
	return err
}
