package store

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

// Load is how many clients publish, each with one event under way, and for how
// long or how many events, whichever ends first.
type Load struct {
	Clients int
	For     time.Duration
	Most    int
}

// Published is what came of a Load.
type Published struct {
	Events  int           `json:"events"`
	Elapsed time.Duration `json:"elapsed"`
	// Micros are the times from publishing to the ack, in microseconds.
	Micros []float64 `json:"micros"`
	// CPU is the processor time that this process used meanwhile.
	CPU time.Duration `json:"cpu"`
}

// PublishHere runs a server in this process and publishes to it, first to warm
// up, then to measure.
func PublishHere(ctx context.Context, dir string, t Transport, warm, l Load) (Published, error) {
	js, closeAll, err := open(dir, t)
	if err != nil {
		return Published{}, err
	}
	defer closeAll()
	if _, err := publishAll(ctx, js, warm); err != nil {
		return Published{}, err
	}
	before, err := processCPU()
	if err != nil {
		return Published{}, err
	}
	p, err := publishAll(ctx, js, l)
	if err != nil {
		return Published{}, err
	}
	after, err := processCPU()
	p.CPU = after - before
	return p, err
}

// PublishTo publishes to a server that another process runs. CPU is not told:
// it is the other process's that counts.
func PublishTo(ctx context.Context, url string, l Load) (Published, error) {
	nc, js, err := connect(url)
	if err != nil {
		return Published{}, err
	}
	defer nc.Close()
	return publishAll(ctx, js, l)
}

// processCPU is what this process has used so far, user and system.
func processCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read the processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// publishAll runs the clients over one connection, so that what they publish
// at the same time travels together.
func publishAll(ctx context.Context, js jetstream.JetStream, l Load) (Published, error) {
	if err := makeUnread(ctx, js); err != nil {
		return Published{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.For+time.Minute, fmt.Errorf("no progress"))
	defer cancel()
	var (
		clients sync.WaitGroup
		taken   atomic.Int64
		micros  = make([][]float64, l.Clients)
		failed  = make([]error, l.Clients)
		began   = time.Now()
	)
	for c := range l.Clients {
		clients.Go(func() {
			for time.Since(began) < l.For && failed[c] == nil {
				n := taken.Add(1)
				if n > int64(l.Most) {
					return
				}
				sent := time.Now()
				failed[c] = publish(ctx, js, ingressSubject, newEvent(n))
				micros[c] = append(micros[c], float64(time.Since(sent))/1e3)
			}
		})
	}
	clients.Wait()
	p := Published{Elapsed: time.Since(began)}
	for c := range l.Clients {
		if failed[c] != nil {
			return Published{}, failed[c]
		}
		p.Micros = append(p.Micros, micros[c]...)
	}
	p.Events = len(p.Micros)
	return p, nil
}

var eventData = workload.Data(0)

func newEvent(n int64) workload.Event {
	return workload.Event{Header: map[string][]string{
		"Ce-Specversion": {workload.SpecVersion},
		"Ce-Id":          {strconv.FormatInt(n, 10)},
		"Ce-Source":      {workload.Source},
		"Ce-Type":        {workload.Type(0)},
		"Content-Type":   {workload.ContentType},
	}, Data: eventData}
}
