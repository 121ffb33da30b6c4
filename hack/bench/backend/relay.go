package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/stats"
)

// relay carries n records of the Sequence's size through so many topics, so many at
// once, with another client library and nothing else:
//
//	produce ---> topic 1 ---> consumer group, produce ---> topic 2 ... ---> came
//
// A record is committed when the next topic has it. It shows what the broker, the
// machine and this way of using them leave for the steps.
func relay(ctx context.Context, broker string, topics, n, window int) (r sequenceResult, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, errors.New("a record does not come to the end"))
	defer cancel()
	l := &line{came: make([]chan struct{}, n), failed: make(chan error, 1)}
	for i := range l.came {
		l.came[i] = make(chan struct{}, 1)
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.open(ctx, broker, topics); err != nil {
		return r, err
	}
	working, stop := context.WithCancel(ctx)
	var hops sync.WaitGroup
	defer hops.Wait()
	defer stop()
	for i := range topics {
		hops.Go(func() { l.hop(working, i) })
	}
	// The groups have been joined once a record has come through.
	if err := l.through(ctx, 0); err != nil {
		return r, err
	}
	took := make([]float64, n)
	next := make(chan int)
	var sending sync.WaitGroup
	begun := time.Now()
	for range window {
		sending.Go(func() {
			for i := range next {
				at := time.Now()
				if err := l.through(ctx, i); err != nil {
					l.fail(err)
					cancel()
				}
				took[i] = time.Since(at).Seconds() * 1000
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	sending.Wait()
	r.deliveries = float64(n) / time.Since(begun).Seconds()
	slices.Sort(took)
	r.p50 = stats.Quantile(took, 0.5)
	select {
	case err := <-l.failed:
		return r, err
	default:
		return r, nil
	}
}

// idHeader has a record's number.
const idHeader = "ce_id"

// line is the topics of a relay, and who reads and writes them.
type line struct {
	topics   []string
	producer *kgo.Client
	groups   []*kgo.Client
	came     []chan struct{} // by record
	failed   chan error      // the first one
}

func (l *line) open(ctx context.Context, broker string, topics int) (err error) {
	if l.producer, err = franzProducer(broker); err != nil {
		return err
	}
	for range topics {
		topic := "relay-" + strings.ToLower(rand.Text())
		if _, err := kadm.NewClient(l.producer).CreateTopic(ctx, 1, 1, nil, topic); err != nil {
			return err
		}
		l.topics = append(l.topics, topic)
		c, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(100*time.Millisecond))
		if err != nil {
			return err
		}
		l.groups = append(l.groups, c)
	}
	return nil
}

func (l *line) close() error {
	for _, c := range l.groups {
		c.Close()
	}
	if l.producer == nil {
		return nil
	}
	defer l.producer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	_, err := kadm.NewClient(l.producer).DeleteTopics(ctx, l.topics...)
	return err
}

func (l *line) fail(err error) {
	select {
	case l.failed <- err:
	default:
	}
}

// record is the one that begins as number i.
func (l *line) record(i int) *kgo.Record {
	h := franzHeaders()
	for k := range h {
		if h[k].Key == idHeader {
			h[k].Value = []byte(fmt.Sprint(i))
		}
	}
	return &kgo.Record{Topic: l.topics[0], Headers: h, Value: make([]byte, sequenceData)}
}

// through waits until record i has come to the end.
func (l *line) through(ctx context.Context, i int) error {
	if err := l.producer.ProduceSync(ctx, l.record(i)).FirstErr(); err != nil {
		return err
	}
	select {
	case <-l.came[i]:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hop reads topic i until ctx ends.
func (l *line) hop(ctx context.Context, i int) {
	for {
		f := l.groups[i].PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		if err := f.Err(); err != nil {
			l.fail(err)
			return
		}
		f.EachRecord(func(r *kgo.Record) {
			if i+1 == len(l.topics) {
				l.arrived(r)
				l.groups[i].MarkCommitRecords(r)
				return
			}
			l.producer.Produce(ctx, &kgo.Record{Topic: l.topics[i+1], Headers: r.Headers, Value: r.Value}, func(_ *kgo.Record, err error) {
				if err != nil {
					if ctx.Err() == nil {
						l.fail(err)
					}
					return
				}
				l.groups[i].MarkCommitRecords(r)
			})
		})
	}
}

func (l *line) arrived(r *kgo.Record) {
	for _, h := range r.Headers {
		if h.Key != idHeader {
			continue
		}
		var i int
		if _, err := fmt.Sscan(string(h.Value), &i); err != nil {
			l.fail(fmt.Errorf("a record's id: %w", err))
			return
		}
		select {
		case l.came[i] <- struct{}{}:
		default: // delivered again
		}
	}
}
