package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

const (
	atOnce      = 4         // payloads, where memory is measured
	memoryOnly  = 3         // rounds in which it is
	perSize     = 128 * mib // bytes that each size is measured with, about
	mostPerSize = 20
	leastMade   = 5 // chains by reference within a pod: the first one meets cold caches
	warmUp      = 20
	leastPairs  = 4                      // of a payload by reference and an event of the smallest size
	rest        = 100 * time.Millisecond // before a chain, and within it before its hops
	patience    = 2 * time.Minute        // for one payload
)

// bench measures.
type bench struct {
	dir      string
	sizes    []int64
	steps    *steps
	progress io.Writer
	ids      int
	client   http.Client
}

// results are what all rounds showed.
type results struct {
	rounds  int
	wanted  []contender
	sizes   []int64
	times   map[key][]float64 // microseconds by round: of a payload, or of a hop by reference
	beside  map[key][]float64 // those of a hop of the smallest size, measured in turn with these
	memory  map[key][]float64 // MiB: the peak of a process that carried four at once
	foreign []float64
}

type key struct {
	contender string
	size      int64
}

// rounds measures every contender with every size once in each round.
func (b *bench) rounds(ctx context.Context, wanted []contender, rounds int, seed uint64) (*results, error) {
	r := &results{rounds: rounds, wanted: wanted, sizes: b.sizes, times: map[key][]float64{}, beside: map[key][]float64{}, memory: map[key][]float64{}}
	began := time.Now()
	for round := range rounds {
		order := slices.Clone(wanted)
		rand.New(rand.NewPCG(seed, uint64(round))).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		load := machine.WatchForeign()
		for _, c := range order {
			if err := b.times(ctx, c, r); err != nil {
				return nil, fmt.Errorf("%s in round %d: %w", c.name, round+1, err)
			}
			if round < memoryOnly {
				if err := b.memory(ctx, c, r); err != nil {
					return nil, fmt.Errorf("memory of %s in round %d: %w", c.name, round+1, err)
				}
			}
			b.say("round %d/%d  %-14s  after %v", round+1, rounds, c.name, time.Since(began).Round(time.Second))
		}
		r.foreign = append(r.foreign, load.Part())
	}
	return r, nil
}

// times measures all sizes, one payload at a time.
func (b *bench) times(ctx context.Context, c contender, r *results) error {
	p, err := b.start(ctx, c)
	if err != nil {
		return err
	}
	defer p.stop()
	for range warmUp {
		if _, err := b.send(ctx, p, c, kib); err != nil {
			return p.Explain(err)
		}
	}
	if c.reference {
		if err := b.hopTimes(ctx, p, c, r); err != nil {
			return p.Explain(err)
		}
		return nil
	}
	for _, size := range b.sizes {
		var took []float64
		least := int64(1)
		if c.made && c.reference {
			least = leastMade
		}
		for range min(max(least, perSize/size), mostPerSize) {
			micros, err := b.send(ctx, p, c, size)
			if err != nil {
				return p.Explain(err)
			}
			took = append(took, micros...)
		}
		k := key{c.name, size}
		r.times[k] = append(r.times[k], median(took))
	}
	return nil
}

// hopTimes measures hops by reference in turn with those of the smallest size. Both
// begin after a rest, and so do the hops of both (see steps.pass): a process that has
// just had much to do, or nothing, hops at another pace than one in the midst of many hops.
func (b *bench) hopTimes(ctx context.Context, p *running, c contender, r *results) error {
	least := b.sizes[0]
	var all []float64
	for _, size := range b.sizes[1:] {
		hops := map[int64][]float64{}
		for range max(leastPairs, min(perSize/size, mostPerSize)) {
			for _, n := range []int64{least, size} {
				time.Sleep(rest)
				micros, err := b.send(ctx, p, c, n)
				if err != nil {
					return err
				}
				hops[n] = append(hops[n], micros...)
			}
		}
		k := key{c.name, size}
		r.times[k] = append(r.times[k], median(hops[size]))
		r.beside[k] = append(r.beside[k], median(hops[least]))
		all = append(all, hops[least]...)
	}
	k := key{c.name, least}
	r.times[k] = append(r.times[k], median(all))
	return nil
}

func median(all []float64) float64 {
	slices.Sort(all)
	return stats.Quantile(all, 0.5)
}

// memory measures the peak of a process that carries several at once, of the
// smallest and of the largest size.
func (b *bench) memory(ctx context.Context, c contender, r *results) error {
	for _, size := range []int64{b.sizes[0], b.sizes[len(b.sizes)-1]} {
		p, err := b.start(ctx, c)
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		failed := make(chan error, atOnce)
		for range atOnce {
			wg.Go(func() {
				if _, err := b.send(ctx, p, c, size); err != nil {
					failed <- err
				}
			})
		}
		wg.Wait()
		peak, err := p.measured().PeakRSS()
		if len(failed) > 0 {
			err = p.Explain(<-failed)
		}
		p.stop()
		if err != nil {
			return err
		}
		k := key{c.name, size}
		r.memory[k] = append(r.memory[k], float64(peak)/mib)
	}
	return nil
}

var idLock sync.Mutex

func (b *bench) id() string {
	idLock.Lock()
	defer idLock.Unlock()
	b.ids++
	return strconv.Itoa(b.ids)
}

// send posts one payload and waits until it has arrived. It returns how long that
// took, or the hops, in microseconds.
func (b *bench) send(ctx context.Context, p *running, c contender, size int64) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id := b.id()
	arrivals := b.steps.expect(id)
	posted := size
	if c.made {
		posted = kib
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, newPattern(posted))
	if err != nil {
		return nil, err
	}
	r.ContentLength = posted
	for name, value := range map[string]string{
		"Ce-Id": id, "Ce-Source": "/bench", "Ce-Type": "t", "Ce-Specversion": "1.0", "Content-Type": "application/octet-stream",
		"Ce-Size": strconv.FormatInt(size, 10),
	} {
		r.Header.Set(name, value)
	}
	start := time.Now()
	answer, err := b.client.Do(r)
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		return nil, fmt.Errorf("%d bytes were answered %s", size, answer.Status)
	}
	var a arrival
	select {
	case a = <-arrivals:
	case <-ctx.Done():
		return nil, fmt.Errorf("%d bytes were accepted, but did not arrive", size)
	}
	if a.err != nil {
		return nil, a.err
	}
	if !c.reference {
		if a.bytes != size {
			return nil, fmt.Errorf("%d bytes arrived of %d", a.bytes, size)
		}
		if c.made {
			start = b.steps.made(id)
		}
		return []float64{micros(a.at.Sub(start))}, nil
	}
	var hops []float64
	for _, h := range b.steps.take(id) {
		hops = append(hops, micros(h))
	}
	return hops, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// pattern yields bytes that do not repeat within a block.
type pattern struct{ left int64 }

var block = func() []byte {
	b := make([]byte, mib)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}()

func newPattern(size int64) *pattern { return &pattern{size} }

func (p *pattern) Read(to []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	at := p.left % mib
	n := copy(to[:min(int64(len(to)), p.left)], block[at:])
	p.left -= int64(n)
	return n, nil
}
