package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"
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
		DialContext:            c.dialer.DialContext,
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
	req.Header, req.ContentLength = header, m.length
	req.GetBody = func() (io.ReadCloser, error) { return m.open(ctx) }
	if u := req.URL.User; u != nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	// RoundTrip and not Client.Do: redirects are not followed.
	resp, err := e.transport.RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
	}
	// Whatever came of it: a receiver that has not seen all of the data has not
	// got the event.
	if broken := m.broken(); broken != nil {
		return Result{Err: fmt.Errorf("post to %s: %w", r.Target.Display(), broken)}
	}
	if err != nil {
		return Result{Err: fmt.Errorf("post to %s: %w", r.Target.Display(), cause(ctx, err))}
	}
	return c.fullResult(ctx, r, resp)
}

func (c *Client) fullResult(ctx context.Context, r *Request, resp *http.Response) Result {
	a := answer{
		status:     resp.StatusCode,
		retryAfter: resp.Header.Get("Retry-After"),
		header:     fullHeader(resp.Header),
		own:        func(b []byte) []byte { return b },
	}
	var err error
	if mayReply(resp.StatusCode) {
		var t taken
		t, err = c.takeBody(ctx, r, a.header, resp.Body, resp.ContentLength)
		a.body, a.reply, a.tooBig = t.data, t.reply, t.tooBig
	} else {
		a.body, _, err = readStart(resp.Body, resp.ContentLength)
	}
	if err != nil {
		return Result{Err: fmt.Errorf("post to %s: read response: %w", r.Target.Display(), cause(ctx, err))}
	}
	return result(a)
}

func fullHeader(h http.Header) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for k, vs := range h {
			for _, v := range vs {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// cause prefers why the context ended over what came of it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return errors.Join(c, err)
	}
	return err
}
