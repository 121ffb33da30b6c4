package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// flaky has a bad day: it answers 503 to the first two attempts at each event,
// and 400 to events whose type ends in ".bad". The third attempt goes to step.
type flaky struct {
	step step

	mu    sync.Mutex     // guards tried
	tried map[string]int // failures, by event
}

// maxTried bounds what a sample remembers of events that nobody tries again.
const maxTried = 10_000

func (f *flaky) handle(ctx context.Context, path string, in cloudevents.Event) (outcome, error) {
	const failures = 2
	if strings.HasSuffix(in.Type(), ".bad") {
		return outcome{}, refuse(http.StatusBadRequest, "an event of type %s is of no use", in.Type())
	}
	n := f.attempt(in.Source()+" "+in.ID(), failures)
	if n <= failures {
		return outcome{}, refuse(http.StatusServiceUnavailable, "attempt %d fails", n)
	}
	out, err := f.step(ctx, path, in)
	out.note += fmt.Sprintf(", attempt %d", n)
	return out, err
}

// attempt counts; after so many failures it starts anew.
func (f *flaky) attempt(key string, failures int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.tried[key] + 1
	switch {
	case n > failures:
		delete(f.tried, key)
	case len(f.tried) < maxTried || n > 1:
		f.tried[key] = n
	}
	return n
}
