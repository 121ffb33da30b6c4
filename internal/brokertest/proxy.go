package brokertest

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

// Proxy stands between one connection and the server, and can cut it, slow it down
// or spoil it: one of toxiproxy's, in this process.
type Proxy struct {
	t       testing.TB
	address string
	to      string

	mu     sync.Mutex
	proxy  *toxiproxy.Proxy // nil while it is cut
	toxics []toxic
}

// toxic is what toxiproxy does to what passes in one direction.
type toxic struct {
	Type       string           `json:"type"`
	Stream     string           `json:"stream"`
	Attributes map[string]int64 `json:"attributes"`
}

// silence has toxics not say to stderr what happens to each connection.
var silence = sync.OnceFunc(func() { zerolog.SetGlobalLevel(zerolog.Disabled) })

// StartProxy listens on a port and passes on to an address.
func StartProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	silence()
	p := &Proxy{t: t, to: to, address: FreeAddress(t)}
	if p.proxy = p.start(); p.proxy == nil {
		t.Fatalf("the proxy cannot listen on %s", p.address)
	}
	t.Cleanup(p.Cut)
	return p
}

func (p *Proxy) start() *toxiproxy.Proxy {
	s := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	x := toxiproxy.NewProxy(s, "broker", p.address, p.to)
	for _, t := range p.toxics {
		p.poison(x, t)
	}
	if x.Start() != nil {
		return nil
	}
	return x
}

func (p *Proxy) poison(x *toxiproxy.Proxy, t toxic) {
	text, err := json.Marshal(t)
	if err == nil {
		_, err = x.Toxics.AddToxicJson(strings.NewReader(string(text)))
	}
	if err != nil {
		p.t.Errorf("toxic %s: %v", t.Type, err)
	}
}

// Address is where it listens.
func (p *Proxy) Address() string { return p.address }

// Cut breaks all connections and lets no new ones through.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proxy != nil {
		p.proxy.Stop()
		p.proxy = nil
	}
}

// Mend lets connections through again.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proxy != nil {
		return
	}
	if p.proxy = p.start(); p.proxy == nil {
		p.t.Errorf("somebody took port %s of a proxy that was cut", p.address)
	}
}

// Poison adds one of toxiproxy's toxics in both directions, to connections that are
// and that will be, until Clear: "latency" {latency, jitter: ms}, "bandwidth" {rate:
// kB/s}, "slicer" {average_size, delay: µs, in pieces}, "timeout" {timeout: ms} (nothing passes any
// more, and then the connection is closed), "reset_peer" {timeout: ms} (as soon as
// something is to pass it is reset).
func (p *Proxy) Poison(kind string, attributes map[string]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, stream := range []string{"upstream", "downstream"} {
		t := toxic{Type: kind, Stream: stream, Attributes: attributes}
		p.toxics = append(p.toxics, t)
		if p.proxy != nil {
			p.poison(p.proxy, t)
		}
	}
}

// Clear has everything pass as it is again.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toxics = nil
	if p.proxy != nil {
		p.proxy.Toxics.ResetToxics(context.Background())
	}
}

// Trouble is what a connection may go through.
type Trouble struct {
	Kind       string
	Attributes map[string]int64
	// Breaks connections, rather than slow them.
	Breaks bool
}

// Troubles are of each kind one.
func Troubles() []Trouble {
	return []Trouble{
		{Kind: "latency", Attributes: map[string]int64{"latency": 40, "jitter": 20}},
		{Kind: "bandwidth", Attributes: map[string]int64{"rate": 20}},
		{Kind: "slicer", Attributes: map[string]int64{"average_size": 100, "delay": 3000}},
		{Kind: "reset_peer", Attributes: map[string]int64{"timeout": 0}, Breaks: true},
		{Kind: "timeout", Attributes: map[string]int64{"timeout": 300}, Breaks: true},
	}
}

// ProxyRuns have goleak pass over toxiproxy's goroutines: those of a connection that was
// cut while something was on its way stay where they are.
func ProxyRuns() []goleak.Option {
	const module = "github.com/Shopify/toxiproxy/v2"
	return []goleak.Option{
		goleak.IgnoreAnyFunction(module + ".(*ToxicLink).read"),
		goleak.IgnoreAnyFunction(module + "/toxics.(*ToxicStub).Run"),
	}
}
