package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// hopSteps are the steps of the flow that passes on by reference.
const hopSteps = 32

// steps are the receivers: /sink takes a payload by value, /make answers with one, /1
// to /32 pass on what they get as they get it.
type steps struct {
	url    string
	server http.Server

	mu    sync.Mutex
	waits map[string]chan arrival // by event id
	hops  map[string][]time.Duration
	last  map[string]time.Time // when a step began to answer
}

// arrival is what came of an event.
type arrival struct {
	at    time.Time
	bytes int64
	err   error
}

func startSteps() (*steps, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &steps{
		url: "http://" + l.Addr().String(), waits: map[string]chan arrival{},
		hops: map[string][]time.Duration{}, last: map[string]time.Time{},
	}
	s.server.Handler = s
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

func (s *steps) stop() { _ = s.server.Close() }

// expect returns where the arrival of an event will be told.
func (s *steps) expect(id string) <-chan arrival {
	c := make(chan arrival, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits[id] = c
	return c
}

func (s *steps) arrived(id string, a arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.waits[id]; c != nil {
		delete(s.waits, id)
		c <- a
	}
}

// ServeHTTP implements http.Handler.
func (s *steps) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	entered, id := time.Now(), r.Header.Get("Ce-Id")
	if r.URL.Path == "/sink" {
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil && r.ContentLength != n {
			err = fmt.Errorf("%d bytes of %d", n, r.ContentLength)
		}
		w.WriteHeader(http.StatusAccepted)
		s.arrived(id, arrival{time.Now(), n, err})
		return
	}
	if r.URL.Path == "/make" {
		s.make(w, r, id)
		return
	}
	step, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	s.pass(w, r, step, id, entered)
}

// make answers with a payload as large as the event asks for.
func (s *steps) make(w http.ResponseWriter, r *http.Request, id string) {
	size, err := strconv.ParseInt(r.Header.Get("Ce-Size"), 10, 64)
	if _, readErr := io.Copy(io.Discard, r.Body); err != nil || readErr != nil {
		http.Error(w, "want an event that says how large its answer is to be", http.StatusBadRequest)
		return
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
			w.Header()[name] = values
		}
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	s.mu.Lock()
	s.last[id] = time.Now()
	s.mu.Unlock()
	_, _ = io.Copy(w, newPattern(size)) // who does not get all of it says so
}

// made is when the payload of an event began to be written, and is forgotten.
func (s *steps) made(id string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.last[id]
	delete(s.last, id)
	return at
}

// pass answers with the event that came, and notes the hop that ended here.
func (s *steps) pass(w http.ResponseWriter, r *http.Request, step int, id string, entered time.Time) {
	data, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	s.mu.Lock()
	if step > 1 {
		s.hops[id] = append(s.hops[id], entered.Sub(s.last[id]))
	}
	s.mu.Unlock()
	if step == hopSteps || err != nil {
		w.WriteHeader(http.StatusAccepted)
		s.arrived(id, arrival{entered, int64(len(data)), errors.Join(err, referred(r, len(data)))})
		return
	}
	if step == 1 {
		// Until the payload has come both processors had much to do, and for some tens of
		// milliseconds the kernel puts what it wakes elsewhere than it does at rest.
		time.Sleep(rest)
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
			w.Header()[name] = values
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	s.mu.Lock()
	s.last[id] = time.Now()
	s.mu.Unlock()
	_, _ = w.Write(data)
}

// referred tells whether a step got what is due to it: data, or a reference.
func referred(r *http.Request, data int) error {
	if data == 0 && r.Header.Get("Ce-Dataref") == "" {
		return errors.New("neither data nor a reference")
	}
	return nil
}

// take returns the hops of an event, and forgets them.
func (s *steps) take(id string) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	hops := s.hops[id]
	delete(s.hops, id)
	delete(s.last, id)
	return hops
}
