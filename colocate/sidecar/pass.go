package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// ownPaths are not a step's, whatever it is called.
const ownPaths = "/.sidestep/"

// named is the step that a request's path names, and the path that is left for it:
// "/resize/small" is "/small" of the step resize.
func (s *Sidecar) named(path string) (st *step, rest string) {
	if len(s.byName) == 0 || strings.HasPrefix(path, ownPaths) {
		return nil, ""
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return s.byName[name], "/" + rest
}

// passer passes requests on that have no slip. Connections to steps are its own: how
// long an answer may take is the client's affair.
func newPasser(s *Sidecar) *http.Transport {
	return &http.Transport{
		MaxIdleConnsPerHost: s.MaxInFlight, IdleConnTimeout: idleTimeout, DisableCompression: true,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// pass has a step answer a request, and passes its answer back as it is: this is how a step is
// called that has no address but that of its pod.
//
//	POST /resize --> a place at the step? --> 127.0.0.1:9101 POST /
//	                    | 503                    | 502 if nobody answers
func (s *Server) pass(ctx *fasthttp.RequestCtx, st *step, path string) {
	c, _ := ctx.Conn().(*conn)
	if s.s.chains.Add(1) > int64(s.s.MaxChains) {
		s.s.chains.Add(-1)
		s.full(ctx)
		return
	}
	c.linger.Store(false)
	c.begin(false)
	defer c.end()
	if !st.wait(c.ctx, s.s.MaxWait) {
		s.s.chains.Add(-1)
		s.full(ctx)
		return
	}
	s.s.counts.passed.Add(1)
	p := &passing{server: s, step: st, conn: c, began: time.Now(), body: &borrowed{from: ctx.RequestBodyStream()}}
	if err := p.send(ctx, path); err != nil {
		unread := !p.body.finished()
		p.Close() //nolint:errcheck // there is no answer
		ctx.Response.Reset()
		if unread {
			linger(ctx)
			ctx.SetConnectionClose()
		}
		say(ctx, http.StatusBadGateway, fmt.Sprintf("the step at port %s does not answer: %v", st.name, err))
	}
}

func (s *Server) full(ctx *fasthttp.RequestCtx) {
	linger(ctx)
	say(ctx, http.StatusServiceUnavailable, "all places are taken")
	ctx.Response.Header.Set("Retry-After", fmt.Sprint(retryAfter))
}

// passing is one request that is passed on, until its answer is sent.
type passing struct {
	server *Server
	step   *step
	conn   *conn
	began  time.Time
	body   *borrowed
	answer io.ReadCloser // nil: there is none yet
	once   sync.Once
}

func (p *passing) send(ctx *fasthttp.RequestCtx, path string) error {
	req, err := p.request(ctx, path)
	if err != nil {
		return err
	}
	res, err := p.server.passer.RoundTrip(req)
	if err != nil {
		return plainError(err)
	}
	p.answer = res.Body
	p.step.learn(time.Since(p.began))
	h := &ctx.Response.Header
	h.DisableNormalizing()
	ctx.SetStatusCode(res.StatusCode)
	for name, values := range endToEnd(res.Header) {
		for _, v := range values {
			h.Add(name, v)
		}
	}
	ctx.Response.SkipBody = ctx.IsHead()
	if !p.body.finished() {
		linger(ctx)
		ctx.SetConnectionClose()
	}
	ctx.Response.SetBodyStream(p, int(res.ContentLength))
	return nil
}

// request is the one that the step gets.
func (p *passing) request(ctx *fasthttp.RequestCtx, path string) (*http.Request, error) {
	u := "http://" + p.step.address + path
	if q := ctx.URI().QueryString(); len(q) > 0 {
		u += "?" + string(q)
	}
	req, err := http.NewRequestWithContext(p.conn.ctx, string(ctx.Method()), u, http.NoBody)
	if err != nil {
		return nil, err
	}
	h := &ctx.Request.Header
	for k, v := range h.All() {
		req.Header.Add(string(k), string(v))
	}
	req.Header = endToEnd(req.Header)
	req.Host = string(h.Host())
	req.Header.Del("Host")
	req.Header.Del("Content-Length")
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "") // none, instead of this library's
	}
	if n := h.ContentLength(); n != 0 && p.body.from != nil {
		req.Body, req.ContentLength = io.NopCloser(p.body), int64(max(n, -1))
	} else {
		p.body.end = true
	}
	return req, nil
}

// endToEnd leaves out what is of one connection (RFC 9110, 7.6.1).
func endToEnd(h http.Header) http.Header {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
	return h
}

// plainError leaves out what a caller knows.
func plainError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Read implements io.Reader: the answer's body.
func (p *passing) Read(b []byte) (int, error) { return p.answer.Read(b) }

// Close ends it: the answer is sent, or was given up.
func (p *passing) Close() (err error) {
	p.once.Do(func() {
		if p.answer != nil {
			err = p.answer.Close()
		}
		if !p.body.finished() {
			// Somebody may be waiting for more of it; the connection is of no further use.
			_ = p.conn.SetReadDeadline(time.Unix(1, 0))
		}
		p.body.giveBack()
		p.step.leave()
		p.server.s.chains.Add(-1)
	})
	return err
}

// borrowed is the body of a request, of which nothing is read any more once it was given
// back: the transport's goroutine may outlive the answer.
type borrowed struct {
	mu   sync.Mutex
	from io.Reader
	end  bool
	back bool
}

var errGivenBack = errors.New("the request is over")

func (b *borrowed) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.back {
		return 0, errGivenBack
	}
	n, err := b.from.Read(p)
	b.end = b.end || err != nil
	return n, err
}

// finished: nothing of it is left to be read. A Read that is under way says no.
func (b *borrowed) finished() bool {
	if !b.mu.TryLock() {
		return false
	}
	defer b.mu.Unlock()
	return b.end
}

func (b *borrowed) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.back = true
}

// stepsAnswer tells whether every step that has a name takes connections: a pod that was
// started for an event must not be sent it sooner.
func (s *Sidecar) stepsAnswer(ctx context.Context) error {
	for name, st := range s.byName {
		c, err := s.dialer.DialContext(ctx, "tcp", st.address)
		if err != nil {
			return fmt.Errorf("step %s: %w", name, err)
		}
		c.Close()
	}
	return nil
}
