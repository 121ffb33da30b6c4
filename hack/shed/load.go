package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// result of a load: how long each chain took that was done, and each that was turned
// away, in order of time.
type result struct {
	done, shed []time.Duration
	elapsed    time.Duration
}

func (r result) rate(of []time.Duration) float64 { return float64(len(of)) / r.elapsed.Seconds() }

// load offers chains at a rate. A chain's time counts from when its worker sends it:
// what it waits for a worker says nothing about the sidecar.
func (p *pod) load(ctx context.Context, o options, rate float64) (result, error) {
	var (
		workers sync.WaitGroup
		next    atomic.Int64
		parts   = make([]result, o.workers)
		errs    = make([]error, o.workers)
		began   = time.Now()
	)
	for i := range o.workers {
		workers.Go(func() {
			for errs[i] == nil && ctx.Err() == nil {
				due := time.Duration(float64(next.Add(1)) / rate * float64(time.Second))
				if due > o.last {
					return
				}
				time.Sleep(due - time.Since(began))
				errs[i] = p.post(&parts[i])
			}
		})
	}
	workers.Wait()
	r := result{elapsed: time.Since(began)}
	for _, part := range parts {
		r.done = append(r.done, part.done...)
		r.shed = append(r.shed, part.shed...)
	}
	slices.Sort(r.done)
	slices.Sort(r.shed)
	return r, errors.Join(append(errs, context.Cause(ctx))...)
}

func (p *pod) post(r *result) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	slip, err := p.signer.Header(wire.Key{Pod: p.slip.Pod}, func() *wire.Slip { s := *p.slip; return &s })
	if err != nil {
		return err
	}
	req.SetRequestURI(p.url + wire.ChainPath)
	req.Header.SetMethod(http.MethodPost)
	for _, h := range [][2]string{
		{wire.SlipHeader, slip},
		{"ce-specversion", "1.0"},
		{"ce-id", "1"},
		{"ce-source", "/shed"},
		{"ce-type", "t"},
		{"content-type", "text/plain"},
	} {
		req.Header.Set(h[0], h[1])
	}
	req.SetBodyRaw(data[:])
	start := time.Now()
	if err := p.client.Do(req, resp); err != nil {
		return err
	}
	took := time.Since(start)
	var out wire.Outcome
	if err := wire.ParseOutcome(string(resp.Header.Peek(wire.OutcomeHeader)), &out); err != nil {
		return err
	}
	switch out.Kind {
	case wire.Completed:
		r.done = append(r.done, took)
	case wire.Busy:
		r.shed = append(r.shed, took)
	default:
		return fmt.Errorf("a chain spilled: %v %s", out.Reason, out.Seen.Error)
	}
	return nil
}

// data of each event: 1 KiB.
var data [1 << 10]byte
