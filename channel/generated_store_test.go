package channel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// pattern yields the bytes of a payload from offset to size. The first one is its
// seed.
func pattern(seed byte, offset, size int64) io.Reader {
	return io.LimitReader(&repeated{block: blockOf(seed), at: offset}, size-offset)
}

// blockOf is what a pattern repeats: a length that is none of anybody's buffers.
func blockOf(seed byte) []byte {
	b, _ := blocks.LoadOrStore(seed, append([]byte{seed}, randomBytes(seed, 1<<20+6)...))
	block, _ := b.([]byte)
	return block
}

var blocks sync.Map

type repeated struct {
	block []byte
	at    int64
}

func (e *repeated) Read(p []byte) (int, error) {
	n := copy(p, e.block[e.at%int64(len(e.block)):])
	e.at += int64(n)
	return n, nil
}

// generated is a store for payloads of one size and of a pattern: it makes them anew
// instead of keeping them.
type generated struct {
	size    int64
	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	seed byte
	tail []byte // what follows the payload
}

func newGenerated(size int64) *generated {
	return &generated{size: size, objects: map[string]object{}}
}

func (g *generated) Put(_ context.Context, name string, r io.Reader) error {
	if !strings.HasPrefix(name, "payload/") {
		return nil // a mark
	}
	var first [1]byte
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return err
	}
	n, err := io.CopyN(&comparing{want: pattern(first[0], 1, g.size)}, r, g.size-1)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	tail, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.objects[name] = object{first[0], tail}
	return nil
}

func (g *generated) Open(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	g.mu.Lock()
	o, ok := g.objects[name]
	g.mu.Unlock()
	if !ok {
		return nil, claimcheck.ErrNotFound
	}
	var all io.Reader
	if offset < g.size {
		all = io.MultiReader(pattern(o.seed, offset, g.size), bytes.NewReader(o.tail))
	} else {
		all = bytes.NewReader(o.tail[offset-g.size:])
	}
	if length >= 0 {
		all = io.LimitReader(all, length)
	}
	return io.NopCloser(all), nil
}

func (g *generated) Delete(_ context.Context, name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.objects, name)
	return nil
}

func (g *generated) List(context.Context, string) iter.Seq2[claimcheck.Object, error] {
	return func(yield func(claimcheck.Object, error) bool) { yield(claimcheck.Object{}, errors.ErrUnsupported) }
}

func (*generated) Close() error { return nil }
