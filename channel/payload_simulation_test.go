package channel_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
	"github.com/sidestep-dev/sidestep/claimcheck/faultstore"
)

// simulatedTTL is so short that payloads have to be renewed all the time, while
// somebody sweeps.
const simulatedTTL = time.Minute

// simulatedPayloads outlive the processes of a simulation: a store whose calls fail now
// and then, which is swept all the time. nil: there are none.
type simulatedPayloads struct {
	s     *simulation
	store *faultstore.Store
	room  *claimcheck.Checkroom

	mu      sync.Mutex
	random  *rand.Rand
	healthy bool
	claims  *channel.Claims
	strange []string // dead letters whose payload was lost
}

// payloadSeeds are those of a run: they take longer than those without payloads.
func payloadSeeds() uint64 {
	if os.Getenv("SIDESTEP_LONG") == "1" {
		return 1000
	}
	return 20
}

// TestNoPayloadIsLostInAnySimulatedHistory: as the histories beside, with large events,
// and a store that fails, too. In the end each event that was accepted has arrived
// somewhere with the data that it was sent with, and the store is empty.
func TestNoPayloadIsLostInAnySimulatedHistory(t *testing.T) {
	simulate(t, payloadSeeds(), func(t *testing.T, seed uint64) {
		s := newSimulation(t, seed)
		s.weather = storm // whatever fails in a store counts as that
		s.payloads = newSimulatedPayloads(s)
		sweeping, stop := context.WithCancel(t.Context())
		var sweeps sync.WaitGroup
		sweeps.Go(func() { s.payloads.sweepAlways(sweeping) })
		s.run()
		stop()
		sweeps.Wait()
		s.payloads.check()
	})
}

func newSimulatedPayloads(s *simulation) *simulatedPayloads {
	p := &simulatedPayloads{s: s, store: faultstore.New(blobstore.Memory()), random: rand.New(rand.NewPCG(s.seed, 3))}
	p.store.SetPlan(p.plan)
	keys, err := claimcheck.NewKeys(bytes.Repeat([]byte("k"), 32))
	if err == nil {
		p.room, err = claimcheck.New(claimcheck.Config{
			Stores: map[string]claimcheck.Store{"main": p.store}, Current: "main", Keys: keys, TTL: simulatedTTL, Slack: 10 * time.Second,
			Keep: int(s.seed%2) << 20,
		})
	}
	if err == nil {
		p.claims, err = channel.NewClaims(channel.ClaimsConfig{Room: p.room, Threshold: threshold})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (p *simulatedPayloads) plan(op faultstore.Op, _ string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.healthy || p.random.IntN(100) >= 4 {
		return nil
	}
	return fmt.Errorf("%s: %w", op, claimcheck.ErrUnavailable)
}

func (p *simulatedPayloads) heal() {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.healthy = true
	}
}

func (p *simulatedPayloads) configure(c *channel.Config) {
	if p != nil {
		c.Claims = p.claims
	}
}

// dataFor is what an event has, whichever step it comes from.
func dataFor(id string) []byte { return bytes.Repeat([]byte(id), 3*threshold) }

// enlarge gives half of the events a payload, as ingress does.
func (p *simulatedPayloads) enlarge(e *event.Event, r *rand.Rand) (*event.Event, error) {
	if p == nil || r.IntN(2) == 0 {
		return e, nil
	}
	return p.keep(e, "ns/c0", nil)
}

func (p *simulatedPayloads) keep(e *event.Event, owner string, same event.Payload) (*event.Event, error) {
	data := dataFor(e.ID)
	stored, err := p.claims.Store(context.Background(), event.Incoming{Owner: owner, Head: data, Length: int64(len(data)), Same: same})
	if err != nil {
		return nil, err
	}
	large := *e
	large.Data, large.Payload = nil, stored
	return &large, nil
}

// read does what a receiver does; false where it would not have got it all.
func (p *simulatedPayloads) read(q *egress.Request) (egress.Result, bool) {
	if p == nil || q.Event.Payload == nil {
		return egress.Result{}, true
	}
	data, err := dataOf(q.Event)
	if err != nil {
		return egress.Result{Err: fmt.Errorf("%w: %w", egress.ErrPayload, err)}, false
	}
	if !bytes.Equal(data, dataFor(q.Event.ID)) {
		p.s.t.Errorf("seed %d: event %s came with %d bytes of other data", p.s.seed, q.Event.ID, len(data))
	}
	return egress.Result{}, true
}

// answer has a step pass the payload on, unchanged or as if it were another.
func (p *simulatedPayloads) answer(res egress.Result, q *egress.Request) egress.Result {
	if p == nil || q.Event.Payload == nil {
		return res
	}
	p.mu.Lock()
	same := q.Event.Payload
	if p.random.IntN(2) == 0 {
		same = nil
	}
	p.mu.Unlock()
	reply, err := p.keep(res.Reply, q.ReplyOwner, same)
	if err != nil {
		return egress.Result{Err: err}
	}
	return egress.Result{Status: res.Status, Reply: reply}
}

// lost tells whether a dead letter came without the data it should have. The
// simulation's lock is held.
func (p *simulatedPayloads) lost(q *egress.Request) bool {
	if p == nil || q.Event.Payload != nil || len(q.Event.Data) > 0 {
		return false
	}
	p.strange = append(p.strange, q.Event.ID)
	return true
}

func (p *simulatedPayloads) sweepAlways(ctx context.Context) {
	logs := p.s.store.Connect()
	defer logs.Close(context.Background())
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(3 * time.Second):
			_, _ = p.room.Sweep(ctx, func(ctx context.Context, _ string) (time.Time, error) { return p.oldest(ctx, logs) })
		}
	}
}

func (p *simulatedPayloads) oldest(ctx context.Context, b backend.Backend) (oldest time.Time, err error) {
	for i := range p.s.length {
		lag, err := b.Lag(ctx, fmt.Sprintf("ns/c%d", i), fmt.Sprintf("u%d", i))
		if err != nil {
			return oldest, err
		}
		if !lag.Oldest.IsZero() && (oldest.IsZero() || lag.Oldest.Before(oldest)) {
			oldest = lag.Oldest
		}
	}
	return oldest, nil
}

func (p *simulatedPayloads) check() {
	t := p.s.t
	t.Helper()
	// A record that comes back late, when its event has come to its end, may come
	// without its payload. No other may.
	for _, id := range p.strange {
		if p.s.arrived[id]+p.s.dead[id] == 0 {
			t.Errorf("seed %d: the payload of event %s was lost", p.s.seed, id)
		}
	}
	time.Sleep(10 * simulatedTTL)
	nobody := func(context.Context, string) (time.Time, error) { return time.Time{}, nil }
	if _, err := p.room.Sweep(context.Background(), nobody); err != nil {
		t.Error(err)
	}
	names, err := p.store.Payloads(context.Background())
	if err != nil || len(names) > 0 {
		t.Errorf("seed %d: left in the store are %v, %v", p.s.seed, names, err)
	}
	if n := len(p.strange); n > 0 {
		t.Logf("seed %d: %d events came back after their payload had gone", p.s.seed, n)
	}
	if p.store.Calls(faultstore.Put) == 0 {
		t.Error("nothing was ever put: nothing was simulated")
	}
}
