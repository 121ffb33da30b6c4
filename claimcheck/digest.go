package claimcheck

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// An object is the payload and its trailer. They are one object, so that neither
// can be without the other:
//
//	|  block 0  |  block 1  |  rest  | state 1 | state 2 | SHA-256 |
//	'---------- payload, Size -------'---------- trailer ----------'
//	  SHA256 of the claim               Blocks of the claim
//
// A state is what SHA-256 has come to after a whole number of blocks (FIPS 180-4, the
// intermediate hash value). So one pass makes both the hash of all and what each block is
// held to: block i is right if, beginning from state i, it leads to state i+1, or to the hash of
// all if it is the last. Another block of the same length that does so would be a collision.

// digester hashes a payload on its way.
type digester struct {
	sum     hash.Hash
	inBlock int
	size    int64
	trailer []byte // 32 bytes per MiB
}

func newDigester() *digester { return &digester{sum: sha256.New()} }

func (d *digester) write(p []byte) {
	d.size += int64(len(p))
	for len(p) > 0 {
		n := min(len(p), BlockSize-d.inBlock)
		d.sum.Write(p[:n])
		d.inBlock += n
		p = p[n:]
		if d.inBlock == BlockSize {
			state := stateOf(d.sum)
			d.trailer = append(d.trailer, state[:]...)
			d.inBlock = 0
		}
	}
}

// finish ends the payload. Nothing may be written after it.
func (d *digester) finish() (whole, trailer [sha256.Size]byte) {
	d.sum.Sum(whole[:0])
	d.trailer = append(d.trailer, whole[:]...)
	return whole, sha256.Sum256(d.trailer)
}

// trailerSize of a payload.
func trailerSize(size int64) int64 { return (size/BlockSize + 1) * sha256.Size }

// The form in which crypto/sha256 keeps a digest that has taken whole chunks of
// 64 bytes only: its mark, the state, no bytes that wait, and their number so far.
const (
	stateMark = "sha\x03"
	stateForm = len(stateMark) + sha256.Size + sha256.BlockSize + 8
)

// stateOf is the state of h, which has taken a whole number of blocks.
func stateOf(h hash.Hash) (state [sha256.Size]byte) {
	var form [stateForm]byte
	b, err := h.(encoding.BinaryAppender).AppendBinary(form[:0])
	if err != nil || len(b) != stateForm || string(b[:len(stateMark)]) != stateMark {
		panic("claimcheck: crypto/sha256 keeps its state in another form") // a test would have told
	}
	copy(state[:], b[len(stateMark):])
	return state
}

// resume is SHA-256 in a state that it has come to after size bytes.
func resume(state []byte, size int64) hash.Hash {
	form := append(make([]byte, 0, stateForm), stateMark...)
	form = append(append(form, state...), make([]byte, sha256.BlockSize)...)
	form = binary.BigEndian.AppendUint64(form, uint64(size))
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(form); err != nil {
		panic("claimcheck: crypto/sha256 keeps its state in another form") // as above
	}
	return h
}

// blockIs tells whether block is what c has at a whole number of blocks.
func blockIs(c *Claim, trailer []byte, at int64, block []byte) bool {
	h := sha256.New()
	if i := at / BlockSize; i > 0 {
		h = resume(trailer[(i-1)*sha256.Size:i*sha256.Size], at)
	}
	h.Write(block)
	if end := at + int64(len(block)); end == c.Size {
		return [sha256.Size]byte(h.Sum(nil)) == c.SHA256
	}
	i := at / BlockSize * sha256.Size
	return len(block) == BlockSize && stateOf(h) == [sha256.Size]byte(trailer[i:i+sha256.Size])
}

// inflow is a payload on its way: ahead or beside.
type inflow interface {
	// next is what comes next, until the next call; maybe together with the error that
	// follows it. When that is io.EOF all was hashed.
	next(most int) ([]byte, error)
	stop()
}

// payloadReader is what is put into a store: the payload, hashed on the way
// and held to its limits, then the trailer. It must be closed.
type payloadReader struct {
	src     inflow
	kept    *keptPayload // nil if it is not kept
	limit   int64        // 0 for none
	length  int64        // that was announced; < 0 if none was
	size    int64        // so far
	late    func() bool
	digests *digester
	seal    *sealing
	trailer *bytes.Buffer // set when the payload has ended
	whole   [sha256.Size]byte
	blocks  [sha256.Size]byte
}

func newPayloadReader(src io.Reader, limit, length int64, seal *sealing, kept *keptPayload) *payloadReader {
	d := newDigester()
	both := func(p []byte) {
		d.write(p)
		seal.write(p)
	}
	r := &payloadReader{limit: limit, length: length, digests: d, seal: seal, kept: kept}
	if kept != nil {
		r.src = newBeside(src, kept.data, both)
	} else {
		r.src = newAhead(src, length, both)
	}
	return r
}

func (r *payloadReader) close() {
	r.src.stop()
	r.seal.free()
	r.kept.release()
}

// Errors of a payload on its way in.
var (
	// ErrLength: it has not the length that was announced.
	ErrLength = errors.New("payload has not the length that was announced")
	// ErrSlow: it took more than half of the time that payloads are kept.
	ErrSlow = errors.New("payload took too long to come")
)

func (r *payloadReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	at, err := r.Next(len(p))
	return copy(p, at), err
}

// Next implements Chunked.
func (r *payloadReader) Next(most int) ([]byte, error) {
	for r.trailer == nil {
		p, err := r.more(most)
		if err != nil || len(p) > 0 {
			return p, err
		}
	}
	if r.trailer.Len() == 0 {
		return nil, io.EOF
	}
	return r.trailer.Next(most), nil
}

// more of the payload, held to its limits; nothing if it has ended.
func (r *payloadReader) more(most int) ([]byte, error) {
	p, err := r.src.next(most)
	r.size += int64(len(p))
	switch {
	case r.late != nil && r.late():
		return nil, fmt.Errorf("%w: %d bytes so far", ErrSlow, r.size)
	case r.limit > 0 && r.size > r.limit:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.limit)
	case r.length >= 0 && r.size > r.length, err == io.EOF && r.length >= 0 && r.size < r.length: //nolint:errorlint // a wrapped io.EOF is an error
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrLength, r.size, r.length)
	case err == io.EOF: //nolint:errorlint // as above
		r.whole, r.blocks = r.digests.finish()
		r.trailer = bytes.NewBuffer(r.digests.trailer)
		return p, nil
	}
	return p, err
}

// readTrailer reads a claim's trailer and holds it to the claim.
func readTrailer(ctx context.Context, s Store, c *Claim) ([]byte, error) {
	r, err := s.Open(ctx, c.Object, c.Size, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	trailer := make([]byte, trailerSize(c.Size))
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
