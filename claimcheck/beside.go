package claimcheck

import (
	"io"
	"sync"
)

// beside reads a payload into the memory where it is to be kept, and hashes it there while it
// is being written: nothing is copied, and nothing has to be given back.
//
//	src --> buffer --> next
//	          '------> hashing
//
// One goroutine, from newBeside until stop returns; none for a short stream. When next
// returns io.EOF all has been hashed.
type beside struct {
	src     io.Reader
	rest    []byte // of the buffer
	hash    func([]byte)
	parts   chan []byte // nil once there are no more, or for a short stream
	running sync.WaitGroup
	ended   bool
	excess  [1]byte
}

// partsAhead are those that may wait to be hashed: a payload of keepMost that comes in
// parts of 64 KiB never waits.
const partsAhead = keepMost / chunkSize

func newBeside(src io.Reader, into []byte, hash func([]byte)) *beside {
	b := &beside{src: src, rest: into, hash: hash}
	if len(into) > shortStream {
		parts := make(chan []byte, partsAhead)
		b.parts = parts
		b.running.Go(func() {
			for p := range parts {
				hash(p)
			}
		})
	}
	return b
}

// next reads more, where it stays. What is longer than the buffer shows itself by a byte.
func (b *beside) next(most int) ([]byte, error) {
	if b.ended {
		b.stop()
		return nil, io.EOF
	}
	into := b.rest[:min(most, len(b.rest), chunkSize)]
	if len(into) == 0 {
		into = b.excess[:]
	}
	n, err := b.src.Read(into)
	p := into[:n]
	if len(b.rest) > 0 {
		b.rest = b.rest[n:]
		if b.parts != nil {
			b.parts <- p
		} else {
			b.hash(p)
		}
	}
	if err == io.EOF { //nolint:errorlint // a wrapped one is an error
		// What came with it is written before it is waited for.
		b.ended = true
		return p, nil
	}
	return p, err
}

// stop waits until what was read has been hashed.
func (b *beside) stop() {
	if b.parts != nil {
		close(b.parts)
		b.parts = nil
	}
	b.running.Wait()
}
