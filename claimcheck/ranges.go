package claimcheck

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// OpenRanges opens a payload to be read anywhere. Every block is read whole and
// held to its hash before any byte of it is handed out, so that all that is
// yielded is right. It takes the memory of one block, and of the trailer (32
// bytes per MiB). Reading needs ctx.
func (r *Checkroom) OpenRanges(ctx context.Context, c Claim) (io.ReadSeekCloser, error) {
	return r.openRanges(ctx, c)
}

func (r *Checkroom) openRanges(ctx context.Context, c Claim) (*ranged, error) {
	s, err := r.store(c.Store)
	if err == nil {
		err = c.locates()
	}
	var trailer []byte
	if err == nil {
		trailer, err = readTrailer(ctx, s, &c)
	}
	if err == nil {
		// The trailer, which is what Blocks says, ends in the hash of all: a link does not
		// say it again.
		whole := [sha256.Size]byte(trailer[len(trailer)-sha256.Size:])
		if c.SHA256 != whole && c.SHA256 != [sha256.Size]byte{} {
			err = fmt.Errorf("%w: SHA-256 differs", ErrCorrupt)
		}
		c.SHA256 = whole
	}
	if err != nil {
		r.notify.Failed(OpFetch, err)
		return nil, fmt.Errorf("open payload of %s: %w", c.Owner, err)
	}
	return &ranged{ctx: ctx, store: s, claim: &c, trailer: trailer, end: c.Size, notify: r.notify}, nil
}

// ranged reads block by block.
//
//	Seek: only at          Read: block of at at hand? --> copy
//	                             next of body? --------> read it whole, verify, copy
//	                             else -----------------> open the object from its start on
type ranged struct {
	ctx     context.Context
	store   Store
	claim   *Claim
	trailer []byte
	end     int64 // where reading ends
	notify  Observer

	at    int64         // of the next byte to hand out
	block []byte        // verified; nil if none is at hand
	start int64         // of block
	body  io.ReadCloser // open at bodyAt
	next  int64         // of the next byte of body
	buf   []byte
	err   error
}

func (r *ranged) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.at >= r.end {
		return 0, io.EOF
	}
	if r.block == nil || r.at < r.start || r.at >= r.start+int64(len(r.block)) {
		if err := r.load(r.at / BlockSize * BlockSize); err != nil {
			r.err = fmt.Errorf("read payload of %s at %d: %w", r.claim.Owner, r.at, err)
			if r.notify != nil {
				r.notify.Failed(OpFetch, err)
			}
			return 0, r.err
		}
	}
	from := r.block[r.at-r.start:]
	n := copy(p, from[:min(int64(len(from)), r.end-r.at)])
	r.at += int64(n)
	if r.notify != nil {
		r.notify.Fetched(int64(n), false)
	}
	return n, nil
}

// load reads and verifies the block that begins at start.
func (r *ranged) load(start int64) error {
	r.block = nil
	if r.body == nil || r.next != start {
		if err := r.reopen(start); err != nil {
			return err
		}
	}
	n := min(BlockSize, r.claim.Size-start)
	if r.buf == nil {
		r.buf = make([]byte, min(BlockSize, r.claim.Size))
	}
	k, err := io.ReadFull(r.body, r.buf[:n])
	r.next += int64(k)
	if err != nil {
		return short(err)
	}
	if !blockIs(r.claim, r.trailer, start, r.buf[:n]) {
		return fmt.Errorf("%w: block at %d", ErrCorrupt, start)
	}
	r.block, r.start = r.buf[:n], start
	return nil
}

func (r *ranged) reopen(start int64) error {
	if r.body != nil {
		_ = r.body.Close()
		r.body = nil
	}
	body, err := r.store.Open(r.ctx, r.claim.Object, start, r.claim.Size-start)
	if err != nil {
		return err
	}
	r.body, r.next = body, start
	return nil
}

func (r *ranged) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.end
	case io.SeekStart:
	default:
		return 0, fmt.Errorf("seek: whence %d", whence)
	}
	if offset < 0 {
		return 0, errors.New("seek: before the beginning")
	}
	r.at = offset
	return offset, nil
}

func (r *ranged) Close() error {
	if r.err == nil {
		r.err = errClosed
	}
	if r.body == nil {
		return nil
	}
	body := r.body
	r.body = nil
	return body.Close()
}

// hashOf is the SHA-256 of a claim in hexadecimal.
func hashOf(c *Claim) string { return hex.EncodeToString(c.SHA256[:]) }
