package kafkabackend

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/deletetopics"
	"github.com/segmentio/kafka-go/protocol/incrementalalterconfigs"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

const (
	topicResource = 2
	configSet     = 0
	// maxMessage is the setting that seals: no batch is small enough for 0.
	maxMessage = "max.message.bytes"
)

type setting struct{ name, value string }

// batchSlack is what a batch may need beyond MaxRecordBytes: its header, the
// record's, and lengths beyond the 4 bytes that Record.Size allows for a header.
const batchSlack = 16 << 10

func (b *Backend) logConfig(sealed bool) []setting {
	retention := int64(-1)
	if b.config.Retention > 0 {
		retention = b.config.Retention.Milliseconds()
	}
	largest := max(b.config.MaxRecordBytes, batchBytes) + batchSlack
	if sealed {
		largest = 0
	}
	return append(b.replicated(),
		setting{"cleanup.policy", "delete"},
		setting{"retention.ms", strconv.FormatInt(retention, 10)},
		setting{"message.timestamp.type", "LogAppendTime"},
		setting{maxMessage, strconv.Itoa(largest)},
	)
}

func (b *Backend) replicated() []setting {
	if b.config.Replicas < 3 {
		return nil
	}
	return []setting{{"min.insync.replicas", strconv.Itoa(b.config.Replicas - 1)}}
}

// makeOwnTopics makes the catalog and the topic in which the processes talk.
func (b *Backend) makeOwnTopics(ctx context.Context) error {
	catalog := append(b.replicated(),
		setting{"cleanup.policy", "compact"},
		setting{"segment.bytes", strconv.Itoa(16 << 20)},
		setting{"min.cleanable.dirty.ratio", "0.2"},
	)
	keep := max(10*time.Minute, 10*b.config.AckWait)
	fleet := append(b.replicated(),
		setting{"cleanup.policy", "delete"},
		setting{"retention.ms", strconv.FormatInt(keep.Milliseconds(), 10)},
		setting{"segment.ms", strconv.FormatInt(keep.Milliseconds(), 10)},
		setting{"segment.bytes", strconv.Itoa(64 << 20)},
		setting{maxMessage, strconv.Itoa(8 << 20)},
		setting{"message.timestamp.type", "LogAppendTime"},
	)
	own := map[string][]setting{b.catalog.tail.at.topic: catalog, b.fleet.tail.at.topic: fleet}
	for topic, settings := range own {
		if _, err := b.cluster.refresh(ctx, topic); err == nil {
			continue
		} else if !errors.Is(err, backend.ErrNotFound) {
			return fmt.Errorf("look for topic %s: %w", topic, err)
		}
		if err := b.makeTopic(ctx, topic, 1, settings); err != nil {
			return fmt.Errorf("make topic %s: %w", topic, err)
		}
	}
	return nil
}

// making is a topic that is to be made.
type making struct {
	topic createtopics.RequestTopic
	err   error
	done  chan struct{}
}

// makeTopic makes a topic unless it exists, and returns when it can be used.
func (b *Backend) makeTopic(ctx context.Context, name string, partitions int, settings []setting) error {
	t := createtopics.RequestTopic{
		Name: name, NumPartitions: int32(partitions), ReplicationFactor: int16(b.config.Replicas),
	}
	for _, s := range settings {
		t.Configs = append(t.Configs, createtopics.RequestConfig{Name: s.name, Value: s.value})
	}
	err := b.cluster.at(ctx, name, func() error {
		w := &making{topic: t, done: make(chan struct{})}
		b.making.add(w)
		select {
		case <-w.done:
			return w.err
		case <-ctx.Done():
			return contextError(ctx)
		}
	})
	if err != nil {
		return err
	}
	return b.awaitTopic(ctx, name)
}

func (b *Backend) makeTopics(wishes []*making) {
	r := &createtopics.Request{TimeoutMs: int32(b.config.RequestTimeout.Milliseconds())}
	says := make(map[string]error, len(wishes))
	for _, w := range wishes {
		if _, twice := says[w.topic.Name]; !twice {
			says[w.topic.Name] = fmt.Errorf("not made: %w", backend.ErrUnavailable)
			r.Topics = append(r.Topics, w.topic)
		}
	}
	answer, err := b.cluster.atController(b.life, r)
	if err == nil {
		a, _ := answer.(*createtopics.Response)
		for _, t := range a.Topics {
			if says[t.Name] = brokerError(t.ErrorCode); kafka.Error(t.ErrorCode) == kafka.TopicAlreadyExists {
				says[t.Name] = nil
			} else if t.ErrorCode != 0 && t.ErrorMessage != "" {
				says[t.Name] = fmt.Errorf("%s: %w", t.ErrorMessage, says[t.Name])
			}
		}
	}
	for _, w := range wishes {
		if w.err = err; err == nil {
			w.err = says[w.topic.Name]
		}
		close(w.done)
	}
}

// awaitTopic returns when all partitions have a leader that takes requests. Of many
// topics made at once a broker takes the last ones seconds later. Those who wait ask at
// the same moments, so that what thousands ask is a few requests: the broker that they
// wait for has better things to do.
func (b *Backend) awaitTopic(ctx context.Context, name string) error {
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		leaders, err := b.cluster.refresh(ctx, name)
		if err == nil {
			all := make([]partition, len(leaders))
			for i := range all {
				all[i] = partition{name, int32(i)}
			}
			if _, err = b.cluster.offset(ctx, latest, all...); err == nil {
				return nil
			}
		}
		if !errors.Is(err, backend.ErrNotFound) && !moved(err) {
			return err
		}
		select {
		case <-time.After(pause - time.Since(b.since)%pause):
		case <-ctx.Done():
			return errors.Join(err, contextError(ctx))
		case <-b.life.Done():
			return backend.ErrClosed
		}
	}
}

// deleteTopic deletes a topic that we made, and returns when its leaders take
// nothing more for it.
func (b *Backend) deleteTopic(ctx context.Context, name string) error {
	leaders, err := b.cluster.partitions(ctx, name)
	if err != nil && !errors.Is(err, backend.ErrNotFound) {
		return err
	}
	err = b.cluster.at(ctx, name, func() error {
		answer, err := b.cluster.atController(ctx, &deletetopics.Request{
			TopicNames: []string{name}, TimeoutMs: int32(b.config.RequestTimeout.Milliseconds()),
		})
		if err != nil {
			return err
		}
		a, _ := answer.(*deletetopics.Response)
		for _, t := range a.Responses {
			if err := brokerError(t.ErrorCode); err != nil && !errors.Is(err, backend.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, id := range leaders {
		b.cluster.mu.Lock()
		leader := b.cluster.brokers[id]
		b.cluster.mu.Unlock()
		if leader == nil {
			continue
		}
		for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
			w := &offsetWish{partition: partition{name, int32(i)}, timestamp: latest, done: make(chan struct{})}
			leader.askOffsets([]*offsetWish{w})
			if errors.Is(w.err, backend.ErrNotFound) || moved(w.err) {
				break
			}
			if w.err != nil {
				return w.err
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return contextError(ctx)
			}
		}
	}
	b.cluster.forget(name)
	return nil
}

// refuse sets a topic so that its leaders refuse all records.
func (b *Backend) refuse(ctx context.Context, topic string) error {
	answer, err := b.cluster.atController(ctx, &incrementalalterconfigs.Request{
		Resources: []incrementalalterconfigs.RequestResource{{
			ResourceType: topicResource, ResourceName: topic,
			Configs: []incrementalalterconfigs.RequestConfig{{Name: maxMessage, ConfigOperation: configSet, Value: "0"}},
		}},
	})
	if err != nil {
		return err
	}
	a, _ := answer.(*incrementalalterconfigs.Response)
	for _, r := range a.Responses {
		if err := brokerError(r.ErrorCode); err != nil {
			return fmt.Errorf("%s: %w", r.ErrorMessage, err)
		}
	}
	return nil
}
