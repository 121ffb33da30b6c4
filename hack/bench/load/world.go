package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate"
	"github.com/sidestep-dev/sidestep/colocate/sidecar"
	"github.com/sidestep-dev/sidestep/internal/budget"
)

var stepNames = [...]string{"a", "b"}

// memory is for events, in all of this process: there must be no other queue than
// those of the steps.
const memory = 4 << 30

// world is two pods and the Services in front of them.
type world struct {
	scenario *scenario
	costs    func(id string) [2]time.Duration
	key      ed25519.PrivateKey
	m        colocate.Map
	services [len(stepNames)]string // URLs
	closers  []func()

	mu   sync.Mutex
	done map[string]time.Time // when b had answered, by event
}

func (w *world) later(f func()) { w.closers = append(w.closers, f) }

func (w *world) close() {
	for i := len(w.closers) - 1; i >= 0; i-- {
		w.closers[i]()
	}
}

// newWorld makes the pods. costs says how long the steps take with an event.
func newWorld(s *scenario, costs func(id string) [2]time.Duration) (_ *world, err error) {
	w := &world{scenario: s, costs: costs, key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), done: map[string]time.Time{}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	var steps [pods][len(stepNames)]http.Handler
	for p := range pods {
		for i := range stepNames {
			steps[p][i] = w.step(i)
		}
		if err := w.pod(fmt.Sprint("pod-", p), steps[p][:]); err != nil {
			return nil, err
		}
	}
	// A step's own address leads to either pod, as that of a Service.
	l, err := w.link()
	if err != nil {
		return nil, err
	}
	for i, name := range stepNames {
		w.services[i], err = w.serve(l, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			steps[rand.N(pods)][i].ServeHTTP(rw, r)
		}))
		if err != nil {
			return nil, err
		}
		w.m.Services = append(w.m.Services, colocate.Service{Name: "ns/" + name, Hosts: []string{colocate.HostOf(w.services[i])}})
	}
	return w, nil
}

// link is one more link of the scenario's rate, nil if it has none.
func (w *world) link() (*link, error) {
	if w.scenario.rate == 0 {
		return nil, nil //nolint:nilnil // none
	}
	l, err := newLink(w.scenario.rate)
	if err == nil {
		w.later(l.close)
	}
	return l, err
}

// serve serves a handler at the far end of a link.
func (w *world) serve(l *link, h http.Handler) (url string, err error) {
	listener, err := l.listen()
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(listener) }()
	w.later(func() { s.Close() })
	return "http://" + listener.Addr().String(), nil
}

// step takes as long as the event costs, and has as many places as it has.
func (w *world) step(i int) http.Handler {
	room := make(chan struct{}, places)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		id := r.Header.Get("ce-id")
		room <- struct{}{}
		time.Sleep(w.costs(id)[i])
		<-room
		if i == len(stepNames)-1 {
			w.mu.Lock()
			w.done[id] = time.Now()
			w.mu.Unlock()
			rw.WriteHeader(http.StatusAccepted)
			return
		}
		for name, values := range r.Header {
			if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
				rw.Header()[name] = values
			}
		}
		rw.Write(data) //nolint:errcheck // who does not get it says so
	})
}

// pod puts a sidecar beside steps.
func (w *world) pod(name string, steps []http.Handler) error {
	claims, err := os.MkdirTemp(memoryVolume(), "bench-load-")
	if err != nil {
		return err
	}
	w.later(func() { os.RemoveAll(claims) })
	c := sidecar.Config{
		Pod: name, Namespace: "ns", MaxInFlight: places, MaxChains: 4096, MaxWait: time.Minute,
		Memory: memory, Claims: claims, ClaimBytes: memory,
	}
	p := colocate.Pod{ID: name, UID: name, Namespace: "ns", Ports: map[string]uint16{}}
	for i, s := range steps {
		url, err := w.serve(nil, s)
		if err != nil {
			return err
		}
		address, err := net.ResolveTCPAddr("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			return err
		}
		c.Allow = append(c.Allow, sidecar.Port{Number: uint16(address.Port)})
		p.Ports["ns/"+stepNames[i]] = uint16(address.Port)
	}
	s, err := sidecar.New(c)
	if err != nil {
		return err
	}
	w.later(s.Close)
	public, _ := w.key.Public().(ed25519.PublicKey)
	if err := s.Trust([]ed25519.PublicKey{public}); err != nil {
		return err
	}
	l, err := w.link()
	if err != nil {
		return err
	}
	listener, err := l.listen()
	if err != nil {
		return err
	}
	server := sidecar.NewServer(s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	w.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = server.Shutdown(ctx)
		<-served
	})
	p.Sidecar = "http://" + listener.Addr().String()
	w.m.Pods = append(w.m.Pods, p)
	return nil
}

// memoryVolume is where a folder in memory can be; the default for temporary ones if
// there is none.
func memoryVolume() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return ""
}

// dispatcher is one that knows some of the pods.
type dispatcher struct {
	*channel.Dispatcher
	backend backend.Backend
	chain   []*channel.Channel
}

// dispatcher starts one; wrap is what stands between it and the pods, or nil.
func (w *world) dispatcher(way way, pods ...colocate.Pod) (*dispatcher, error) {
	d := &dispatcher{backend: membackend.NewStore(membackend.Options{MaxRecordBytes: memory}).Connect()}
	client := egress.New(egress.Config{MaxReplyBytes: memory})
	w.later(client.Close)
	local, err := colocate.New(colocate.Config{Key: w.key, Sender: way.sender(client)})
	if err != nil {
		return nil, err
	}
	w.later(local.Close)
	d.Dispatcher, err = channel.New(channel.Config{
		Backend: d.backend, Sender: client, Pods: forced{local, way}, Key: make([]byte, 32),
		Budget: budget.New(memory), Window: 1 << 16, CheckpointAfter: time.Hour,
	})
	if err != nil {
		return nil, err
	}
	w.later(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = d.Close(ctx)
	})
	for i, name := range stepNames {
		s := &channel.Subscription{
			UID: name, Namespace: "ns", Name: name, Subscriber: &egress.Target{URL: w.services[i]}, Policy: egress.Policy{Timeout: patience},
		}
		if i+1 < len(stepNames) {
			s.Reply = &channel.Destination{Channel: fmt.Sprint("ns/c", i+1)}
		}
		c := &channel.Channel{
			Namespace: "ns", Name: fmt.Sprint("c", i), URL: fmt.Sprint("http://c", i), Subscriptions: []*channel.Subscription{s},
		}
		d.chain = append(d.chain, c)
		ctx := context.Background()
		if _, err := d.backend.EnsureLog(ctx, c.Log()); err != nil {
			return nil, err
		}
		if err := d.backend.EnsureGroup(ctx, c.Log().Name, backend.Group{Name: s.UID}); err != nil {
			return nil, err
		}
	}
	if err := local.SetMap(&colocate.Map{Services: w.m.Services, Pods: pods}); err != nil {
		return nil, err
	}
	for end := time.Now().Add(patience); local.Usable() < len(pods); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return nil, errors.New("the pods do not come to be used")
		}
	}
	_, err = d.Apply(&channel.Table{Channels: d.chain})
	return d, err
}

// post publishes the events of a history, each at its time.
func (d *dispatcher) post(t *trace, name string, start time.Time, payload []byte) error {
	for i, at := range t.at {
		time.Sleep(time.Until(start.Add(at)))
		v := d.Hold()
		err := d.Publish(context.Background(), v.ByName("ns", "c0"), &event.Event{
			SpecVersion: "1.0", ID: id(name, i), Source: "bench", Type: "t", Data: payload,
		})
		v.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// finished waits until nothing is left in the logs.
func (d *dispatcher) finished() error {
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		left := int64(0)
		for _, c := range d.chain {
			l, err := d.backend.Lag(context.Background(), c.Log().Name, c.Subscriptions[0].UID)
			if err != nil {
				return err
			}
			left += l.Records
		}
		switch {
		case left == 0:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("%d events did not end", left)
		}
	}
}
