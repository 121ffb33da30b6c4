package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// post is one POST of a numbered event. An event whose POST got no answer may
// have been stored all the same: it is posted again, with the same id, and each
// post has a number of its own in an extension attribute, so that the one that
// was accepted can be told from those that were not.
type post struct{ event, attempt int }

// Sizes of an event's data, in bytes. From the number firstLarge on it is too large
// for a record, and goes to the store for payloads.
const (
	dataSize   = 256
	largeSize  = 300 << 10
	firstLarge = 1 << 20
)

// data of an event, which nobody may alter on the way.
func (p post) data() string {
	size := dataSize
	if p.event >= firstLarge {
		size = largeSize
	}
	s := fmt.Sprintf("event %d, post %d. ", p.event, p.attempt)
	return strings.Repeat(s, size/len(s)+1)[:size]
}

// sender posts numbered events, each until it is accepted.
type sender struct {
	url           string
	first, events int // of their numbers
	client        http.Client

	accepted []atomic.Int32 // by event, from first on: the post that was answered 202, from 1
	count    atomic.Int64   // of accepted events
	refused  atomic.Int64   // posts that were answered 503
	broken   atomic.Int64   // posts that got no answer

	stop    context.CancelFunc
	working sync.WaitGroup
	begun   time.Time
	took    atomic.Int64 // ns, until all were accepted
}

// pause before an event is posted again.
const pause = 20 * time.Millisecond

// send begins to post events from the number first on. What goes wrong is
// reported to t; the end of t stops it.
func send(t testing.TB, url string, first, events, clients int) *sender {
	t.Helper()
	s := &sender{url: url, first: first, events: events, accepted: make([]atomic.Int32, events)}
	transport := &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}
	s.client.Transport = transport
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	var next atomic.Int64
	s.begun = time.Now()
	for range clients {
		s.working.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= events {
					return
				}
				if err := s.deliver(ctx, i); err != nil {
					if ctx.Err() == nil {
						t.Errorf("post event %d: %v", first+i, err)
					}
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		s.stop()
		s.working.Wait()
		transport.CloseIdleConnections()
	})
	return s
}

// deliver posts the ith event until it is accepted.
func (s *sender) deliver(ctx context.Context, i int) error {
	for attempt := 1; ; attempt++ {
		accepted, err := s.post(ctx, post{s.first + i, attempt})
		switch {
		case err != nil:
			return err
		case accepted:
			s.accepted[i].Store(int32(attempt))
			if s.count.Add(1) == int64(s.events) {
				s.took.Store(int64(time.Since(s.begun)))
			}
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// post tells whether p was accepted. Anything but 202, a 503 that says when to
// come again, or no answer, is an error.
func (s *sender) post(ctx context.Context, p post) (bool, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, strings.NewReader(p.data()))
	if err != nil {
		return false, err
	}
	h := r.Header
	h.Set("Ce-Specversion", "1.0")
	h.Set("Ce-Id", strconv.Itoa(p.event))
	h.Set("Ce-Source", "/numbered")
	h.Set("Ce-Type", "numbered")
	h.Set("Ce-Post", strconv.Itoa(p.attempt))
	h.Set("Content-Type", "text/plain")
	answer, err := s.client.Do(r)
	if err != nil {
		s.broken.Add(1)
		return false, nil
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	switch answer.StatusCode {
	case http.StatusAccepted:
		return true, nil
	case http.StatusServiceUnavailable:
		s.refused.Add(1)
		if n, err := strconv.Atoi(answer.Header.Get("Retry-After")); err != nil || n < 1 {
			return false, fmt.Errorf("503 with Retry-After %q: want seconds", answer.Header.Get("Retry-After"))
		}
		return false, nil
	}
	return false, fmt.Errorf("status %d: %s", answer.StatusCode, text)
}

// done tells whether all events were accepted.
func (s *sender) done() bool { return s.count.Load() == int64(s.events) }

// rate is how many events were accepted in a second, kills included.
func (s *sender) rate() float64 {
	return float64(s.events) / time.Duration(s.took.Load()).Seconds()
}
