package claimcheck

import (
	"bytes"
	"context"
	"errors"
	"io"
)

// A step that looks at a picture and passes it on sends back what we have. To
// see that without storing it first, the answer is compared with the block hashes
// of what the step was sent:
//
//	answer --> block by block --> all equal --------------------> the claim we have, renewed
//	                          '-> first that differs, the kth --> put( object[0,k), that block, the rest )
//
// So the memory it takes is one block, and a payload that differs early, as most do,
// costs nothing but the block hashes; one that differs late is read once more.

func (p *Payload) reader() io.Reader {
	rest := p.Rest
	if rest == nil {
		rest = bytes.NewReader(nil)
	}
	if len(p.Head) == 0 {
		return rest
	}
	return io.MultiReader(bytes.NewReader(p.Head), rest)
}

// compare tells whether src is what p.Same is a claim to; if not, it returns a
// reader of all that src yields.
func (r *Checkroom) compare(ctx context.Context, p *Payload, src io.Reader) (same bool, rest *resumed, err error) {
	c := p.Same
	if !r.comparable(p) {
		return false, &resumed{Reader: src}, nil
	}
	s, err := r.store(c.Store)
	if err != nil {
		return false, &resumed{Reader: src}, nil //nolint:nilerr // then it is stored anew
	}
	trailer, err := readTrailer(ctx, s, c)
	if err != nil {
		return false, &resumed{Reader: src}, nil //nolint:nilerr // as above
	}
	block := make([]byte, BlockSize)
	for at := int64(0); ; at += BlockSize {
		n, err := io.ReadFull(src, block)
		end := errors.Is(err, io.EOF) || err == io.ErrUnexpectedEOF //nolint:errorlint // ReadFull's own
		if err != nil && !end {
			return false, nil, err
		}
		if n < BlockSize && at+int64(n) == c.Size && (n == 0 || blockIs(c, trailer, at, block[:n])) {
			return true, nil, nil
		}
		if n == BlockSize && at+BlockSize <= c.Size && blockIs(c, trailer, at, block) {
			continue
		}
		var after io.Reader = bytes.NewReader(nil)
		if !end {
			after = src
		}
		before := &ranged{ctx: ctx, store: s, claim: c, trailer: trailer, end: at}
		return false, &resumed{io.MultiReader(before, bytes.NewReader(block[:n]), after), before.Close}, nil
	}
}

// comparable tells whether a claim may be used again for a payload: the answer
// must be of the same length and type, and stay in its namespace.
func (r *Checkroom) comparable(p *Payload) bool {
	c := p.Same
	return c.validate() == nil && c.Store == r.rooms.Load().current && c.ContentType == p.ContentType &&
		(p.Length < 0 || p.Length == c.Size) && (p.Limit <= 0 || c.Size <= p.Limit) &&
		sameNamespace(c.Owner, p.Owner)
}

func (r *Checkroom) reuse(ctx context.Context, p *Payload) (Claim, error) {
	c, err := r.carry(ctx, *p.Same, p.Owner)
	if err != nil {
		return Claim{}, err
	}
	r.notify.Reused(c.Size)
	return c, nil
}

// resumed is a payload that was looked at already.
type resumed struct {
	io.Reader
	closer func() error
}

func (r *resumed) close() {
	if r.closer != nil {
		_ = r.closer()
	}
}
