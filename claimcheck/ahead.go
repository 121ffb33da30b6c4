package claimcheck

import (
	"errors"
	"io"
	"sync"
)

// ahead reads a stream and hashes it while what came before is being written:
// reading, hashing and writing a payload cost about the same each, and need not wait
// for one another.
//
//	src --> reading --> hashing --> Read
//	           ^                     |
//	           '------ buffers <-----'
//
// Two goroutines, from newAhead until stop returns. The chunks come in order, so
// what has been hashed when Read returns io.EOF is all there is. A stream that is known to be short
// is read in turn, without them: waking them would take longer.
type ahead struct {
	src  io.Reader
	hash func([]byte)

	free, read, hashed chan *chunk
	end                chan struct{} // closed by stop
	once               sync.Once
	running            sync.WaitGroup

	at   *chunk // being handed out
	rest []byte // of it
}

// chunk is a part of a stream, and how the stream ended if it did after it.
type chunk struct {
	buf [chunkSize]byte
	n   int
	err error
}

// What one stream holds in memory.
const (
	chunkSize   = 64 << 10
	chunksAhead = 8
)

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// short streams have no more bytes than these: hashing them takes less than a tenth
// of a millisecond.
const shortStream = 128 << 10

// newAhead begins to read. hash is told all bytes, in order. length is how many
// are expected, negative if that is not known.
func newAhead(src io.Reader, length int64, hash func([]byte)) *ahead {
	if length >= 0 && length <= shortStream {
		return &ahead{src: src, hash: hash}
	}
	a := &ahead{
		src: src, hash: hash, end: make(chan struct{}),
		free: make(chan *chunk, chunksAhead), read: make(chan *chunk, chunksAhead), hashed: make(chan *chunk, chunksAhead),
	}
	for range chunksAhead {
		a.free <- nil // one is made when it is needed
	}
	a.running.Go(a.reading)
	a.running.Go(a.hashing)
	return a
}

func (a *ahead) reading() {
	defer close(a.read)
	for {
		var c *chunk
		select {
		case <-a.end:
			return
		case c = <-a.free:
		}
		if c == nil {
			c, _ = chunks.Get().(*chunk)
		}
		c.n, c.err = a.src.Read(c.buf[:])
		last := c.err != nil
		a.read <- c // has room for all there are
		if last {
			return
		}
	}
}

func (a *ahead) hashing() {
	defer close(a.hashed)
	for c := range a.read {
		a.hash(c.buf[:c.n])
		a.hashed <- c
	}
}

// Read hands out what has been read and hashed.
func (a *ahead) Read(p []byte) (int, error) {
	if a.end == nil {
		n, err := a.src.Read(p)
		a.hash(p[:n])
		return n, err
	}
	if err := a.load(); err != nil {
		return 0, err
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	if len(a.rest) == 0 && a.at.err != nil && errors.Is(a.at.err, io.EOF) {
		return n, a.at.err
	}
	return n, nil
}

// load has something to hand out, or returns why not.
func (a *ahead) load() error {
	for len(a.rest) == 0 {
		if a.at != nil {
			if a.at.err != nil {
				return a.at.err
			}
			a.free <- a.at
			a.at = nil
		}
		c, ok := <-a.hashed
		if !ok {
			return errClosed
		}
		a.at, a.rest = c, c.buf[:c.n]
	}
	return nil
}

// next hands out up to most of it where it is, until the next call.
func (a *ahead) next(most int) ([]byte, error) {
	if a.end == nil {
		if a.at == nil {
			a.at, _ = chunks.Get().(*chunk)
		}
		n, err := a.Read(a.at.buf[:min(most, chunkSize)])
		return a.at.buf[:n], err
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	p := a.rest[:min(most, len(a.rest))]
	a.rest = a.rest[len(p):]
	return p, nil
}

// stop ends it, and returns when src is not read any more: a Read of src that is under
// way must end by itself. Afterwards nothing more is handed out.
func (a *ahead) stop() {
	if a.end == nil {
		if a.at != nil {
			chunks.Put(a.at)
			a.at = nil
		}
		return
	}
	a.once.Do(func() { close(a.end) })
	a.running.Wait()
	if a.at != nil && a.at.err == nil {
		chunks.Put(a.at)
	}
	a.at, a.rest = nil, nil
	for c := range a.hashed {
		chunks.Put(c)
	}
	for {
		select {
		case c := <-a.free:
			if c != nil {
				chunks.Put(c)
			}
		default:
			return
		}
	}
}
