package natsbackend

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// The packed form of a record is one payload without headers of its own:
//
//	version (1 byte) | len(key) key | entries | { len(name) len(value) name value } ... | data
//
// with lengths as unsigned varints. It is how all records were stored once, and
// still is for those that NATS headers cannot express (see expressible).
const packedVersion = 1

var errMalformed = errors.New("malformed record")

// appendPacked appends r's packed form to dst.
func appendPacked(dst []byte, r *backend.Record) []byte {
	dst = append(dst, packedVersion)
	dst = binary.AppendUvarint(dst, uint64(len(r.Key)))
	dst = append(dst, r.Key...)
	dst = binary.AppendUvarint(dst, uint64(len(r.Header)))
	for i := range r.Header {
		h := &r.Header[i]
		dst = binary.AppendUvarint(dst, uint64(len(h.Name)))
		dst = binary.AppendUvarint(dst, uint64(len(h.Value)))
		dst = append(dst, h.Name...)
		dst = append(dst, h.Value...)
	}
	return append(dst, r.Data...)
}

// decodePacked reads p into r. r.Data shares p's memory; the key and the
// headers are parts of one copy.
func decodePacked(p []byte, r *backend.Record) error {
	if len(p) == 0 || p[0] != packedVersion {
		return fmt.Errorf("unknown record version: %w", errMalformed)
	}
	s, err := measure(p)
	if err != nil {
		return err
	}
	text := string(p[:s.end])
	r.Key = text[s.key : s.key+s.keyLen]
	r.Header = nil
	if s.entries > 0 {
		r.Header = make([]backend.Header, s.entries)
	}
	at := s.first
	for i := range r.Header {
		n, v, next := lengths(p, at)
		r.Header[i] = backend.Header{Name: text[next : next+n], Value: text[next+n : next+n+v]}
		at = next + n + v
	}
	r.Data = p[s.end:len(p):len(p)]
	return nil
}

// shape tells where the parts of a payload are.
type shape struct{ key, keyLen, entries, first, end int }

// measure walks p once and checks every length against it.
func measure(p []byte) (shape, error) {
	var s shape
	var ok bool
	if s.keyLen, s.key, ok = length(p, 1); !ok || s.keyLen > len(p)-s.key {
		return s, fmt.Errorf("key length: %w", errMalformed)
	}
	// An entry takes at least two bytes, which bounds what a corrupt count
	// can have us allocate.
	if s.entries, s.first, ok = length(p, s.key+s.keyLen); !ok || s.entries > (len(p)-s.first)/2 {
		return s, fmt.Errorf("entry count: %w", errMalformed)
	}
	s.end = s.first
	for range s.entries {
		n, v, next := lengths(p, s.end)
		if next < 0 || n > len(p)-next || v > len(p)-next-n {
			return s, fmt.Errorf("entry length: %w", errMalformed)
		}
		s.end = next + n + v
	}
	return s, nil
}

// lengths reads the two lengths at p[at:]; next is negative if there are none.
func lengths(p []byte, at int) (name, value, next int) {
	name, at, ok := length(p, at)
	if !ok {
		return 0, 0, -1
	}
	if value, at, ok = length(p, at); !ok {
		return 0, 0, -1
	}
	return name, value, at
}

func length(p []byte, at int) (n, next int, ok bool) {
	u, w := binary.Uvarint(p[at:])
	if w <= 0 || u > uint64(len(p)) {
		return 0, 0, false
	}
	return int(u), at + w, true
}
