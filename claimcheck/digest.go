package claimcheck

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// An object is the payload and its trailer, the SHA-256 of each BlockSize bytes
// of the payload. They are one object, so that neither can be without the other:
//
//	|  block 0  |  block 1  |  rest  | hash 0 | hash 1 | hash 2 |
//	'---------- payload, Size -------'-------- trailer ---------'
//	  SHA256 of the claim               Blocks of the claim

// digester hashes a payload on its way: as a whole and by block.
type digester struct {
	whole, block hash.Hash
	inBlock      int
	size         int64
	trailer      []byte // 32 bytes per MiB
}

func newDigester() *digester {
	return &digester{whole: sha256.New(), block: sha256.New()}
}

// parallelHash is from how many bytes on the two hashes are made at once.
const parallelHash = 32 << 10

func (d *digester) write(p []byte) {
	d.size += int64(len(p))
	if len(p) < parallelHash {
		d.whole.Write(p)
		d.writeBlocks(p)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.whole.Write(p)
	}()
	d.writeBlocks(p)
	<-done
}

func (d *digester) writeBlocks(p []byte) {
	for len(p) > 0 {
		n := min(len(p), BlockSize-d.inBlock)
		d.block.Write(p[:n])
		d.inBlock += n
		p = p[n:]
		if d.inBlock == BlockSize {
			d.endBlock()
		}
	}
}

func (d *digester) endBlock() {
	if d.inBlock > 0 {
		d.trailer = d.block.Sum(d.trailer)
		d.block.Reset()
		d.inBlock = 0
	}
}

// finish ends the payload. Nothing may be written after it.
func (d *digester) finish() (whole, trailer [sha256.Size]byte) {
	d.endBlock()
	d.whole.Sum(whole[:0])
	return whole, sha256.Sum256(d.trailer)
}

// payloadReader is what is put into a store: the payload, hashed on the way
// and held to its limits, then the trailer.
type payloadReader struct {
	src     io.Reader
	limit   int64 // 0 for none
	length  int64 // that was announced; < 0 if none was
	late    func() bool
	digests *digester
	trailer *bytes.Reader // set when the payload has ended
	whole   [sha256.Size]byte
	blocks  [sha256.Size]byte
}

// Errors of a payload on its way in.
var (
	// ErrLength: it has not the length that was announced.
	ErrLength = errors.New("payload has not the length that was announced")
	// ErrSlow: it took more than half of the time that payloads are kept.
	ErrSlow = errors.New("payload took too long to come")
)

func (r *payloadReader) Read(p []byte) (int, error) {
	if r.trailer != nil {
		return r.trailer.Read(p)
	}
	n, err := r.src.Read(p)
	r.digests.write(p[:n])
	size := r.digests.size
	switch {
	case r.late != nil && r.late():
		return 0, fmt.Errorf("%w: %d bytes so far", ErrSlow, size)
	case r.limit > 0 && size > r.limit:
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.limit)
	case r.length >= 0 && size > r.length, err == io.EOF && r.length >= 0 && size < r.length: //nolint:errorlint // a wrapped io.EOF is an error
		return 0, fmt.Errorf("%w: %d bytes, not %d", ErrLength, size, r.length)
	case err == io.EOF: //nolint:errorlint // as above
		r.whole, r.blocks = r.digests.finish()
		r.trailer = bytes.NewReader(r.digests.trailer)
		return n, nil
	}
	return n, err
}

// readTrailer reads a claim's block hashes and holds them to the claim.
func readTrailer(ctx context.Context, s Store, c *Claim) ([]byte, error) {
	n := blocks(c.Size) * sha256.Size
	r, err := s.Open(ctx, c.Object, c.Size, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	trailer := make([]byte, n)
	if _, err := io.ReadFull(r, trailer); err != nil {
		return nil, short(err)
	}
	if sha256.Sum256(trailer) != c.Blocks {
		return nil, fmt.Errorf("%w: block hashes", ErrCorrupt)
	}
	return trailer, nil
}

// short is what the end of an object is before it is due.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: shorter than it was", ErrCorrupt)
	}
	return err
}
