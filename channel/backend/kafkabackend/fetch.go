package kafkabackend

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go/protocol/fetch"
)

// An answer to a fetch request, version 11 (fixed by fetchRequest). It is read
// here so that records are copied once, from the connection's buffer to where
// they stay.

var errFetch = errors.New("malformed answer to a fetch")

// fetched is what a broker says of one partition.
type fetched struct {
	partition
	code    int16
	end     int64 // the high watermark
	start   int64 // of the log
	records []byte
}

type fetchAnswer struct {
	code    int16
	session int32
	parts   []fetched
}

// reader takes big-endian fields off a buffer, and remembers when it was short.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) int16() int16 {
	if p := r.take(2); p != nil {
		return int16(binary.BigEndian.Uint16(p))
	}
	return 0
}

func (r *reader) int32() int32 {
	if p := r.take(4); p != nil {
		return int32(binary.BigEndian.Uint32(p))
	}
	return 0
}

func (r *reader) int64() int64 {
	if p := r.take(8); p != nil {
		return int64(binary.BigEndian.Uint64(p))
	}
	return 0
}

// count of entries that take at least size bytes each.
func (r *reader) count(size int) int {
	n := int(r.int32())
	if n < 0 {
		return 0
	}
	if n > len(r.b)/size {
		r.bad = true
		return 0
	}
	return n
}

func parseFetch(b []byte, into *fetchAnswer) error {
	r := &reader{b: b}
	r.int32() // throttled for so many ms
	into.code, into.session = r.int16(), r.int32()
	into.parts = into.parts[:0]
	for range r.count(6) {
		topic := string(r.take(int(r.int16())))
		for range r.count(30) {
			f := fetched{partition: partition{topic, r.int32()}, code: r.int16(), end: r.int64()}
			r.int64() // last stable offset
			f.start = r.int64()
			r.take(16 * r.count(16)) // aborted transactions
			r.int32()                // preferred replica
			if n := int(r.int32()); n > 0 {
				f.records = r.take(n)
			}
			into.parts = append(into.parts, f)
		}
	}
	if r.bad {
		return fmt.Errorf("%d bytes: %w", len(b), errFetch)
	}
	return nil
}

// fetchTopics groups partitions by topic.
func fetchTopics(want []fetchWish) []fetch.RequestTopic {
	var topics []fetch.RequestTopic
	at := make(map[string]int, len(want))
	for _, w := range want {
		i, ok := at[w.topic]
		if !ok {
			i = len(topics)
			at[w.topic] = i
			topics = append(topics, fetch.RequestTopic{Topic: w.topic})
		}
		topics[i].Partitions = append(topics[i].Partitions, fetch.RequestPartition{
			Partition: w.index, CurrentLeaderEpoch: -1, FetchOffset: w.offset, LogStartOffset: -1, PartitionMaxBytes: w.max,
		})
	}
	return topics
}

// fetchWish is what to fetch of a partition.
type fetchWish struct {
	partition
	offset int64
	max    int32
}
