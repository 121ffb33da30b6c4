package generate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/loop"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/steps"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

// Errors of a load.
var (
	// ErrStuck: an event did not arrive although time enough has passed.
	ErrStuck = errors.New("an event did not arrive")
	// ErrRefused: an event was not answered with a 2xx.
	ErrRefused = errors.New("an event was refused")
)

// patience is how long nothing may arrive before a load is given up.
const patience = 30 * time.Second

// Generator posts to one ingress. It runs one load at a time.
type Generator struct {
	client   *fasthttp.HostClient
	url      string
	arrivals chan uint32
	next     atomic.Uint32 // the next id of all loads but Sequential
}

// New makes a Generator that posts to url. The ids of events that reached the
// last step are read from arrivals, which may be nil if only Accept is used.
func New(url string, arrivals io.Reader) *Generator {
	g := &Generator{
		client:   loop.NewFastClient(url),
		url:      url,
		arrivals: make(chan uint32, 1<<16), // more than can be in flight
	}
	g.client.ReadTimeout = 2 * patience
	g.next.Store(steps.Recorded)
	if arrivals != nil {
		go g.readArrivals(arrivals)
	}
	return g
}

func (g *Generator) readArrivals(r io.Reader) {
	defer close(g.arrivals)
	var buf [4]byte
	for {
		if _, err := io.ReadFull(r, buf[:]); err != nil {
			return // the steps' process has ended
		}
		g.arrivals <- binary.LittleEndian.Uint32(buf[:])
	}
}

// arrival waits for the next event to reach the last step.
func (g *Generator) arrival(ctx context.Context) (uint32, error) {
	select {
	case id, ok := <-g.arrivals:
		if ok {
			return id, nil
		}
		return 0, fmt.Errorf("%w: the steps have ended", ErrStuck)
	default:
	}
	guard := time.NewTimer(patience)
	defer guard.Stop()
	select {
	case id, ok := <-g.arrivals:
		if ok {
			return id, nil
		}
		return 0, fmt.Errorf("%w: the steps have ended", ErrStuck)
	case <-guard.C:
		return 0, fmt.Errorf("%w within %v", ErrStuck, patience)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// poster posts one event after another. It is one goroutine's.
type poster struct {
	g        *Generator
	request  *fasthttp.Request
	response *fasthttp.Response
	id       []byte
}

var data = workload.Data(0)

func (g *Generator) poster() *poster {
	p := &poster{g: g, request: fasthttp.AcquireRequest(), response: fasthttp.AcquireResponse()}
	p.request.SetRequestURI(g.url)
	p.request.Header.SetMethod(http.MethodPost)
	p.request.Header.SetContentType(workload.ContentType)
	p.request.Header.Set("Ce-Specversion", workload.SpecVersion)
	p.request.Header.Set("Ce-Source", workload.Source)
	p.request.Header.Set("Ce-Type", workload.Type(0))
	p.request.SetBodyRaw(data)
	return p
}

func (p *poster) close() {
	fasthttp.ReleaseRequest(p.request)
	fasthttp.ReleaseResponse(p.response)
}

func (p *poster) post(id uint32) error {
	if id >= steps.MaxEvents {
		return fmt.Errorf("event %d: more than can be told apart", id)
	}
	p.id = strconv.AppendUint(p.id[:0], uint64(id), 10)
	p.request.Header.SetBytesV("Ce-Id", p.id)
	if err := p.g.client.Do(p.request, p.response); err != nil {
		return fmt.Errorf("post event %d: %w", id, err)
	}
	if code := p.response.StatusCode(); code/100 != 2 {
		return fmt.Errorf("post event %d: %w: status %d: %s", id, ErrRefused, code, p.response.Body())
	}
	return nil
}
