package ingress

import (
	"cmp"
	"errors"
	"io"
	"time"
)

// paced is a body that must keep coming. An upload of 5 GiB over a slow line takes
// hours, and must not be cut while it moves; who sends a byte now and then is.
//
//	deadline of a read = the sooner of  now + idle
//	                                    start + idle + bytes / rate
type paced struct {
	from    io.Reader
	request request
	idle    time.Duration
	rate    int64
	reads   int
	start   time.Time // of the first read that was not free
	until   time.Time // the deadline that is set
	n       int64
}

// freeReads are made by the deadline that the server has set: most bodies end with
// them, and cost no look at the clock.
const freeReads = 2

// pace reads the request's body by the Handler's bounds. The server has set the
// first deadline.
func (x *exchange) pace() paced {
	return paced{
		from: x.request.Body(), request: x.request,
		idle: cmp.Or(x.BodyIdle, DefaultBodyIdle), rate: cmp.Or(x.BodyRate, DefaultBodyRate),
	}
}

func (p *paced) Read(b []byte) (int, error) {
	if p.reads++; p.reads > freeReads {
		p.extend(time.Now())
	}
	n, err := p.from.Read(b)
	p.n += int64(n)
	if errors.Is(err, io.EOF) {
		p.request.ReadUntil(time.Time{})
	}
	return n, err
}

// extend moves the deadline, if that is worth a call.
func (p *paced) extend(now time.Time) {
	if p.start.IsZero() {
		p.start = now
	}
	until := now.Add(p.idle)
	// In this order, or else a large number of bytes exceeds a Duration.
	earned := time.Duration(float64(p.n) / float64(p.rate) * float64(time.Second))
	if last := p.start.Add(p.idle + earned); earned >= 0 && last.Before(until) {
		until = last
	}
	if until.Sub(p.until) >= p.idle/8 {
		p.until = until
		p.request.ReadUntil(until)
	}
}
