package natsbackend

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The server keeps a stream in files of some MiB. When the last record in the
// file that it writes to is acked, it begins another file and deletes the old
// one: 0.2 ms of system calls, which a stream whose records are settled as fast
// as they come pays for every one of them. So a stream in use holds an anchor: a
// message that stays for a while, and that nobody fetches. A new one every
// second, and for so many bytes, keeps pace with the file.
const (
	anchorConsumer = "anchor"
	anchorInterval = time.Second
	anchorBytes    = 128 << 10
	anchorLife     = "5s"
	ttlHeader      = "Nats-TTL"
)

// use is called before each publish to the shard, of so many bytes.
func (s *shard) use(size int) {
	n := s.used.Add(int64(size))
	if n > int64(size) && n < anchorBytes {
		return
	}
	select {
	case s.b.unanchored <- s:
	default: // the next publish or tick sees to it
	}
}

// anchor keeps anchors in the streams that we publish to.
func (b *Backend) anchor() {
	t := time.NewTicker(anchorInterval)
	defer t.Stop()
	for {
		select {
		case s := <-b.unanchored:
			if s.used.Load() >= anchorBytes || time.Since(s.anchored) > anchorInterval {
				s.used.Store(0)
				s.anchor()
			}
		case <-t.C:
			for i := range b.shards {
				if b.shards[i].used.Swap(0) > 0 {
					b.shards[i].anchor()
				}
			}
		case <-b.ctx.Done():
			return
		}
	}
}

// anchor leaves one. That it fails is no matter: it only saves work.
func (s *shard) anchor() {
	subject := s.b.names.anchorSubject(s.number)
	if !s.anchorable {
		// The stream drops what no consumer wants.
		ctx, cancel := context.WithTimeout(s.b.ctx, s.b.config.RequestTimeout)
		defer cancel()
		err := s.createConsumer(ctx, jetstream.ConsumerConfig{
			Durable:       anchorConsumer,
			Description:   "keeps the anchor; nobody fetches from it",
			FilterSubject: subject,
			AckPolicy:     jetstream.AckExplicitPolicy,
		})
		if err != nil {
			return
		}
		s.anchorable = true
	}
	_ = s.b.nc.PublishMsg(&nats.Msg{Subject: subject, Header: nats.Header{ttlHeader: {anchorLife}}})
	s.anchored = time.Now()
}
