package kafkabackend

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Timestamps that mean something to ListOffsets.
const (
	latest   = -1
	earliest = -2
)

// offsetWish asks for the offset at a time.
type offsetWish struct {
	partition
	timestamp int64
	offset    int64
	err       error
	done      chan struct{}
}

// offset of a partition at a time, latest or earliest.
func (c *cluster) offset(ctx context.Context, timestamp int64, partitions ...partition) ([]int64, error) {
	wishes := make([]*offsetWish, len(partitions))
	offsets := make([]int64, len(partitions))
	var topic string
	if len(partitions) > 0 {
		topic = partitions[0].topic
	}
	err := c.at(ctx, topic, func() error {
		for i, p := range partitions {
			wishes[i] = &offsetWish{partition: p, timestamp: timestamp, done: make(chan struct{})}
		}
		c.offsets.add(wishes...)
		for i, w := range wishes {
			select {
			case <-w.done:
			case <-ctx.Done():
				return contextError(ctx)
			}
			if w.err != nil {
				return w.err
			}
			offsets[i] = w.offset
		}
		return nil
	})
	return offsets, err
}

// askOffsets asks each leader once, for all of its partitions. A partition that
// is asked about at different times waits for the next round.
func (c *cluster) askOffsets(wishes []*offsetWish) {
	unknown := c.lookFor(wishes)
	for len(wishes) > 0 {
		var later []*offsetWish
		asked := make(map[partition]int64)
		leaders := make(map[*broker][]*offsetWish)
		for _, w := range wishes {
			if t, ok := asked[w.partition]; ok && t != w.timestamp {
				later = append(later, w)
				continue
			}
			err := unknown[w.topic]
			var b *broker
			if err == nil {
				b, err = c.leader(c.life, w.partition)
			}
			if err != nil {
				w.err = err
				close(w.done)
				continue
			}
			asked[w.partition] = w.timestamp
			leaders[b] = append(leaders[b], w)
		}
		for b, w := range leaders {
			b.askOffsets(w)
		}
		wishes = later
	}
}

// lookFor asks about all topics at once that are not known, and returns those of which
// that failed.
func (c *cluster) lookFor(wishes []*offsetWish) map[string]error {
	looks := make(map[string]*lookup)
	for _, w := range wishes {
		if looks[w.topic] == nil && c.known(w.topic) == nil {
			looks[w.topic] = &lookup{topic: w.topic, done: make(chan struct{})}
		}
	}
	c.look.add(slices.Collect(maps.Values(looks))...)
	failed := make(map[string]error)
	for topic, l := range looks {
		if <-l.done; l.err != nil {
			failed[topic] = l.err
		}
	}
	return failed
}

func (b *broker) askOffsets(wishes []*offsetWish) {
	r := &listoffsets.Request{ReplicaID: -1}
	topics := make(map[string]int)
	says := make(map[partition]*listoffsets.ResponsePartition, len(wishes))
	for _, w := range wishes {
		if _, ok := says[w.partition]; ok {
			continue
		}
		says[w.partition] = nil
		i, ok := topics[w.topic]
		if !ok {
			i = len(r.Topics)
			topics[w.topic] = i
			r.Topics = append(r.Topics, listoffsets.RequestTopic{Topic: w.topic})
		}
		r.Topics[i].Partitions = append(r.Topics[i].Partitions, listoffsets.RequestPartition{
			Partition: w.index, CurrentLeaderEpoch: -1, Timestamp: w.timestamp,
		})
	}
	answer, err := b.call(b.c.life, r)
	if err == nil {
		l, _ := answer.(*listoffsets.Response)
		for i := range l.Topics {
			for j := range l.Topics[i].Partitions {
				p := &l.Topics[i].Partitions[j]
				says[partition{l.Topics[i].Topic, p.Partition}] = p
			}
		}
	} else {
		b.c.lost(b)
	}
	for _, w := range wishes {
		p := says[w.partition]
		switch {
		case err != nil:
			w.err = err
		case p == nil:
			w.err = fmt.Errorf("no offset of partition %d of topic %s: %w", w.index, w.topic, backend.ErrUnavailable)
		default:
			if w.offset, w.err = p.Offset, brokerError(p.ErrorCode); p.ErrorCode == int16(kafka.UnknownTopicOrPartition) {
				b.c.forget(w.topic)
			}
		}
		close(w.done)
	}
}
