package kafkabackend

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// position is how far a group is in a partition: all before prefix is settled,
// and so are the offsets in acked, in order, which are above it.
type position struct {
	prefix int64
	acked  []int64
}

// It is committed as an ordinary Kafka offset, which is the prefix; what is
// acked above goes into the commit's metadata, as text:
//
//	"s1" base64( kind, ... )
//	kind 'b': a bit for each offset from prefix on
//	kind 'r': varints, in turn how many are not acked and how many are
//
// whichever is shorter.
const (
	positionMark = "s1"
	// metadataBytes is what a broker takes, unless it is configured otherwise
	// (offset.metadata.max.bytes).
	metadataBytes = 4096
	// spanLimit bounds how far above the prefix a record may be that is with a
	// member: bits for so many offsets fit into the metadata.
	spanLimit = (metadataBytes-2)/4*3*8 - 64
)

var errPosition = errors.New("malformed position")

func (p *position) encode() string {
	if len(p.acked) == 0 {
		return ""
	}
	bitmap := make([]byte, 1, 64)
	runs := []byte{'r'}
	bitmap[0] = 'b'
	next := p.prefix
	for i := 0; i < len(p.acked); {
		from := p.acked[i]
		to := from
		for ; i < len(p.acked) && p.acked[i] == to; i++ {
			to++
		}
		runs = binary.AppendUvarint(runs, uint64(from-next))
		runs = binary.AppendUvarint(runs, uint64(to-from))
		next = to
		if to-p.prefix > spanLimit {
			bitmap = nil
		}
		for o := from; o < to && bitmap != nil; o++ {
			at := int(o - p.prefix)
			for len(bitmap)-1 <= at/8 {
				bitmap = append(bitmap, 0)
			}
			bitmap[1+at/8] |= 1 << (at % 8)
		}
	}
	b := runs
	if bitmap != nil && len(bitmap) < len(runs) {
		b = bitmap
	}
	if base64.StdEncoding.EncodedLen(len(b))+len(positionMark) > metadataBytes {
		return "" // not reached within spanLimit; what is lost is delivered again
	}
	return positionMark + base64.StdEncoding.EncodeToString(b)
}

// decodePosition reads what was committed. Metadata of somebody else's is an
// error, with a position that is good without it.
func decodePosition(prefix int64, metadata string) (position, error) {
	p := position{prefix: prefix}
	if metadata == "" {
		return p, nil
	}
	if len(metadata) < len(positionMark) || metadata[:len(positionMark)] != positionMark {
		return p, fmt.Errorf("mark: %w", errPosition)
	}
	b, err := base64.StdEncoding.DecodeString(metadata[len(positionMark):])
	if err != nil || len(b) == 0 || len(b) > metadataBytes || prefix < 0 {
		return p, fmt.Errorf("text: %w", errPosition)
	}
	kind, b := b[0], b[1:]
	switch kind {
	case 'b':
		for i, c := range b {
			for ; c != 0; c &= c - 1 {
				p.acked = append(p.acked, prefix+int64(8*i+bits.TrailingZeros8(c)))
			}
		}
		return p, nil
	case 'r':
		acked, ok := decodeRuns(prefix, b)
		if !ok {
			return p, fmt.Errorf("runs: %w", errPosition)
		}
		p.acked = acked
		return p, nil
	}
	return p, fmt.Errorf("kind %q: %w", kind, errPosition)
}

func decodeRuns(next int64, b []byte) (acked []int64, ok bool) {
	for limit := next + spanLimit; len(b) > 0; {
		for i := range 2 {
			n, w := binary.Uvarint(b)
			if w <= 0 || n > spanLimit || next+int64(n) > limit {
				return nil, false
			}
			b = b[w:]
			for range n * uint64(i) {
				acked = append(acked, next)
				next++
			}
			next += int64(n) * int64(1-i)
		}
	}
	return acked, true
}
