package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The extension attributes of an event: the steps it went through, and the SHA-256 of
// its data as the client sent it.
const (
	wayHeader = "Ce-Way"
	sumHeader = "Ce-Sum"
)

// step answers with the event it got.
type step struct {
	name  string
	typ   string // of the answer; "": the event's
	delay time.Duration
	fail  float64
}

func (s *step) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, via, err := payload(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	time.Sleep(s.delay)
	if mathrand.Float64() < s.fail {
		http.Error(w, "failing as told", http.StatusServiceUnavailable)
		return
	}
	for name, v := range r.Header {
		if len(name) > 3 && name[:3] == "Ce-" && name != referenceHeader || name == "Content-Type" {
			w.Header()[name] = v
		}
	}
	w.Header().Set(wayHeader, r.Header.Get(wayHeader)+s.name+via)
	if s.typ != "" {
		w.Header().Set("Ce-Type", s.typ)
	}
	_, _ = w.Write(body)
}

// arrival is one event at the end of its flow.
type arrival struct {
	Times int    `json:"times"`
	Way   string `json:"way"` // the last
}

type collector struct {
	mu    sync.Mutex
	came  map[string]*arrival
	wrong []string // what came with other data than it was sent with
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		c.mu.Lock()
		defer c.mu.Unlock()
		answer(w, map[string]any{"came": c.came, "wrong": c.wrong})
		return
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		return
	}
	id := r.Header.Get("Ce-Id")
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := hex.EncodeToString(sum.Sum(nil)); got != r.Header.Get(sumHeader) {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: SHA-256 of data %s, want %s", id, got, r.Header.Get(sumHeader)))
	}
	a := c.came[id]
	if a == nil {
		a = &arrival{}
		c.came[id] = a
	}
	a.Times++
	a.Way = r.Header.Get(wayHeader)
	w.WriteHeader(http.StatusNoContent)
}

// maxPosting is how many requests of a client are under way at most.
const maxPosting = 64

// client posts events, and keeps which were accepted.
type client struct {
	to     []string // each in turn
	every  time.Duration
	data   int
	events int // 0: no end

	life string // tells the events of this process from those of one before it
	stop chan struct{}
	once sync.Once

	mu       sync.Mutex
	accepted []string
	refused  map[string]int // by status or error
	posting  int
}

func newClient() *client {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // it does not fail
	return &client{life: hex.EncodeToString(b), stop: make(chan struct{}), refused: map[string]int{}}
}

func (c *client) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		c.once.Do(func() { close(c.stop) })
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	answer(w, map[string]any{"accepted": c.accepted, "refused": c.refused, "posting": c.posting})
}

func (c *client) run(ctx context.Context) {
	t := time.NewTicker(c.every)
	defer t.Stop()
	data := bytes.Repeat([]byte("0123456789abcdef"), c.data/16+1)[:c.data]
	hash := sha256.Sum256(data)
	sum := hex.EncodeToString(hash[:])
	for n := 0; c.events == 0 || n < c.events; {
		select {
		case <-t.C:
		case <-c.stop:
			return
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		full := c.posting == maxPosting
		if !full {
			c.posting++
		}
		c.mu.Unlock()
		if !full {
			go c.post(ctx, c.to[n%len(c.to)], c.life+"-"+strconv.Itoa(n), data, sum)
			n++
		}
	}
}

var httpClient = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: maxPosting, IdleConnTimeout: 10 * time.Second},
}

func (c *client) post(ctx context.Context, to, id string, data []byte, sum string) {
	outcome := func() string {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(data))
		if err != nil {
			return err.Error()
		}
		for name, v := range map[string]string{
			"Ce-Id": id, "Ce-Source": "/actor", "Ce-Type": "test", "Ce-Specversion": "1.0",
			sumHeader: sum, "Content-Type": "application/octet-stream",
		} {
			r.Header.Set(name, v)
		}
		res, err := httpClient.Do(r)
		if err != nil {
			return "no answer"
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return strconv.Itoa(res.StatusCode)
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posting--
	if outcome == "202" {
		c.accepted = append(c.accepted, id)
	} else {
		c.refused[outcome]++
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader sees what is missing
}
