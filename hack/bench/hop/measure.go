package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/generate"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/steps"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/store"
)

// bench measures.
type bench struct {
	dir      string // for all files
	loads    loads
	progress io.Writer
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

// errFaulty: what arrived at the steps was not what should have arrived.
var errFaulty = errors.New("events were altered or repeated")

// sample measures a contender in processes of its own.
func (b *bench) sample(ctx context.Context, c contender) (s sample, err error) {
	dir, err := os.MkdirTemp(b.dir, c.name+"-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for %s: %w", c.name, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if c.measure != nil {
		return c.measure(ctx, b, dir)
	}
	p, err := b.startPair(ctx, c, dir)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if c.ingress {
		return p.ingress(ctx, b.loads)
	}
	return p.flow(ctx, b.loads)
}

// pair is a contender in front of the steps, and the generator.
type pair struct {
	*instance
	steps *process.Child
	gen   *generate.Generator
}

func (b *bench) startPair(ctx context.Context, c contender, dir string) (*pair, error) {
	s, err := startRole(ctx, roleSteps)
	if err != nil {
		return nil, err
	}
	i, err := c.start(ctx, b, s.URL, dir)
	if err != nil {
		s.Stop()
		return nil, err
	}
	return &pair{instance: i, steps: s, gen: generate.New(i.url, s.Stdout)}, nil
}

// stop ends the contender first: it could not but complain without the steps.
func (p *pair) stop() {
	p.instance.stop()
	p.steps.Stop()
}

// explain adds what the contender said to an error.
func (p *pair) explain(err error) error {
	if p.child != nil {
		return p.child.Explain(err)
	}
	return p.steps.Explain(err)
}

// flow measures events on their way through all the steps.
func (p *pair) flow(ctx context.Context, l loads) (sample, error) {
	if _, err := p.gen.Closed(ctx, l.warm); err != nil {
		return nil, p.explain(err)
	}
	one, err := p.gen.Sequential(ctx, l.hops)
	if err != nil {
		return nil, p.explain(err)
	}
	s, err := p.cost(ctx, func() (generate.Result, error) { return p.gen.Closed(ctx, l.flow) })
	if err != nil {
		return nil, err
	}
	hops, err := steps.FetchHops(ctx, p.steps.URL, one.Events)
	if err != nil {
		return nil, err
	}
	slices.Sort(hops)
	s[hopP50], s[hopP99] = stats.Quantile(hops, 0.5), stats.Quantile(hops, 0.99)
	faults, err := steps.FetchFaults(ctx, p.steps.URL)
	if err != nil {
		return nil, err
	}
	if faults != (steps.Faults{}) {
		return nil, p.explain(fmt.Errorf("%w: %+v", errFaulty, faults))
	}
	if p.check != nil {
		if err := p.check(ctx); err != nil {
			return nil, p.explain(err)
		}
	}
	return s, nil
}

// ingress measures how events are accepted.
func (p *pair) ingress(ctx context.Context, l loads) (sample, error) {
	if _, err := p.gen.Accept(ctx, l.ingressWarm); err != nil {
		return nil, p.explain(err)
	}
	return p.cost(ctx, func() (generate.Result, error) { return p.gen.Accept(ctx, l.ingressFor) })
}

// cost runs a load and tells its rate and what it took.
func (p *pair) cost(ctx context.Context, load func() (generate.Result, error)) (sample, error) {
	before, err := p.used(ctx)
	if err != nil {
		return nil, err
	}
	r, err := load()
	if err != nil {
		return nil, p.explain(err)
	}
	after, err := p.used(ctx)
	if err != nil {
		return nil, err
	}
	each := func(v float64) float64 { return v / float64(r.Total) }
	s := sample{
		perSecond: r.PerSecond(),
		cpuAll:    each(micros(after.own + after.steps - before.own - before.steps)),
	}
	if p.child != nil {
		s[cpu] = each(micros(after.own - before.own))
		rss, err := p.child.PeakRSS()
		if err != nil {
			return nil, err
		}
		s[peakRSS] = float64(rss) / (1 << 20)
	}
	if p.beside != nil {
		rss, err := p.beside.PeakRSS()
		if err != nil {
			return nil, err
		}
		s[peakRSS] += float64(rss) / (1 << 20)
	}
	if p.admin != "" {
		s[allocs] = each(after.mallocs - before.mallocs)
	}
	s.answers(r.Micros)
	return s, nil
}

// answers adds how long answers took, if that is known.
func (s sample) answers(micros []float64) {
	if len(micros) > 0 {
		slices.Sort(micros)
		s[answerP50], s[answerP99] = stats.Quantile(micros, 0.5), stats.Quantile(micros, 0.99)
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// used is what the processes have used since they started.
type used struct {
	own, steps time.Duration
	mallocs    float64
}

func (p *pair) used(ctx context.Context) (u used, err error) {
	if p.admin != "" {
		if u.mallocs, err = mallocs(ctx, p.admin); err != nil {
			return u, err
		}
	}
	if u.steps, err = p.steps.CPU(); err != nil {
		return u, err
	}
	for _, c := range []*process.Child{p.child, p.beside} {
		if c == nil {
			continue
		}
		took, err := c.CPU()
		if err != nil {
			return u, err
		}
		u.own += took
	}
	return u, nil
}

var mallocsLine = regexp.MustCompile(`(?m)^# Mallocs = (\d+)$`)

// mallocs asks a process with /debug/pprof how many objects it has allocated.
func mallocs(ctx context.Context, admin string) (float64, error) {
	body, err := fetch(ctx, "http://"+admin+"/debug/pprof/heap?debug=1")
	if err != nil {
		return 0, err
	}
	m := mallocsLine.FindSubmatch(body)
	if m == nil {
		return 0, fmt.Errorf("count allocations: the heap profile of %s has no such line", admin)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	return body, nil
}

// measurePublish publishes in the store's own process.
func measurePublish(ctx context.Context, b *bench, dir string) (sample, error) {
	warm, load := b.loads.ingressWarm, b.loads.ingressFor
	child, err := startRole(ctx, roleStorePublish,
		"-dir", dir, "-transport", string(storeTransport), "-clients", strconv.Itoa(load.Clients),
		"-warm-for", warm.For.String(), "-warm-most", strconv.Itoa(warm.Most),
		"-for", load.For.String(), "-most", strconv.Itoa(load.Most))
	if err != nil {
		return nil, err
	}
	defer child.Stop()
	out, err := child.Wait()
	if err != nil {
		return nil, err
	}
	var p store.Published
	if err := json.Unmarshal(out, &p); err != nil {
		return nil, fmt.Errorf("read what %s printed: %w", roleStorePublish, err)
	}
	return published(p, p.CPU), nil
}

// measureRemote publishes from this process to a store in another.
func measureRemote(ctx context.Context, b *bench, dir string) (sample, error) {
	child, err := startRole(ctx, roleStoreServe, "-dir", dir)
	if err != nil {
		return nil, err
	}
	defer child.Stop()
	if _, err := store.PublishTo(ctx, child.URL, store.Load(b.loads.ingressWarm)); err != nil {
		return nil, child.Explain(err)
	}
	before, err := child.CPU()
	if err != nil {
		return nil, err
	}
	p, err := store.PublishTo(ctx, child.URL, store.Load(b.loads.ingressFor))
	if err != nil {
		return nil, child.Explain(err)
	}
	after, err := child.CPU()
	if err != nil {
		return nil, err
	}
	s := published(p, after-before)
	rss, err := child.PeakRSS()
	s[peakRSS] = float64(rss) / (1 << 20)
	return s, err
}

func published(p store.Published, took time.Duration) sample {
	s := sample{
		perSecond: float64(p.Events) / p.Elapsed.Seconds(),
		cpu:       micros(took) / math.Max(1, float64(p.Events)),
	}
	s.answers(p.Micros)
	return s
}
