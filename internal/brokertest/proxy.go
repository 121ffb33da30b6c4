package brokertest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between one connection and the server, and can cut it or slow it
// down.
type Proxy struct {
	l    net.Listener
	to   string
	done sync.WaitGroup

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
	delay time.Duration
	piece int
}

// StartProxy listens on a free port and passes on to an address.
func StartProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{l: l, to: to, conns: make(map[net.Conn]struct{})}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.Cut()
		p.done.Wait()
	})
	return p
}

// Address is where it listens.
func (p *Proxy) Address() string { return p.l.Addr().String() }

// Cut breaks all connections and lets no new ones through.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		c.Close()
	}
}

// Mend lets connections through again.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// Slow has every piece of so many bytes, in either direction, wait for so long
// before it is passed on, from now on. 0, 0: as fast as it goes.
func (p *Proxy) Slow(delay time.Duration, piece int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.piece = delay, piece
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.pass(c) })
	}
}

func (p *Proxy) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client); server.Close() })
	both.Go(func() { p.copy(client, server); client.Close() })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

func (p *Proxy) copy(to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		p.mu.Lock()
		delay, piece := p.delay, p.piece
		p.mu.Unlock()
		if piece <= 0 {
			piece = len(buf)
		}
		n, err := from.Read(buf[:min(piece, len(buf))])
		if n > 0 && delay > 0 {
			time.Sleep(delay)
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}
