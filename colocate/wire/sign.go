package wire

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"sync"
	"time"
)

// Lifetime is how long a slip may be used after it was signed.
const Lifetime = 5 * time.Minute

// domain keeps a signature under a slip from being one under anything else.
const domain = "sidestep slip 1\x00"

var encoding = base64.RawURLEncoding

// Key names a slip to a Signer's cache.
type Key struct {
	// Pod is Slip.Pod.
	Pod string
	// Chain is the caller's name for all else that the slip depends on: the
	// chain and the table that it is of. Whatever changes the slip must change it.
	Chain string
}

// Signer signs slips, and keeps what it has signed: a chain that runs again on
// the same pod costs a look-up.
type Signer struct {
	key ed25519.PrivateKey
	now func() time.Time

	mu    sync.RWMutex
	slips map[Key]signed
	bytes int
}

type signed struct {
	header  string
	expires time.Time
}

// maxSigned bounds a Signer's cache, in bytes of header.
const maxSigned = 8 << 20

// entryOverhead is what an entry of a cache costs beside its header, about.
const entryOverhead = 256

// NewSigner makes a Signer. There is nothing to close.
func NewSigner(key ed25519.PrivateKey) *Signer {
	return &Signer{key: key, now: time.Now, slips: make(map[Key]signed)}
}

// Header is the value of the slip header for k. build makes the slip if it is not
// in the cache, or has less than half of its Lifetime left. Errors: those of
// Sign.
func (s *Signer) Header(k Key, build func() *Slip) (string, error) {
	now := s.now()
	s.mu.RLock()
	e, ok := s.slips[k]
	s.mu.RUnlock()
	if ok && e.expires.Sub(now) > Lifetime/2 {
		return e.header, nil
	}
	slip := build()
	if slip.Expires.IsZero() {
		slip.Expires = now.Add(Lifetime)
	}
	header, err := s.Sign(slip)
	if err != nil {
		return "", err
	}
	s.keep(k, signed{header, slip.Expires}, now)
	return header, nil
}

func (s *Signer) keep(k Key, e signed, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.slips[k]; ok {
		s.bytes -= len(old.header) + entryOverhead
		delete(s.slips, k)
	}
	size := len(e.header) + entryOverhead
	if s.bytes+size > maxSigned {
		for k, e := range s.slips {
			if !e.expires.After(now) {
				s.drop(k, e)
			}
		}
	}
	for k, e := range s.slips { // whichever comes first
		if s.bytes+size <= maxSigned {
			break
		}
		s.drop(k, e)
	}
	s.slips[k] = e
	s.bytes += size
}

func (s *Signer) drop(k Key, e signed) {
	s.bytes -= len(e.header) + entryOverhead
	delete(s.slips, k)
}

// Sign is the value of the slip header, not cached. An error wraps ErrSlip: a
// chain whose slip has more than MaxSlipBytes must be cut.
func (s *Signer) Sign(slip *Slip) (string, error) {
	if err := slip.validate(); err != nil {
		return "", err
	}
	c := *slip
	if c.Expires.IsZero() {
		c.Expires = s.now().Add(Lifetime)
	}
	// version "." slip "." signature
	b := c.append(append(make([]byte, 0, 1024), domain...))
	signature := ed25519.Sign(s.key, b)
	body := b[len(domain):]
	out := make([]byte, 0, 4+encoding.EncodedLen(len(body))+encoding.EncodedLen(len(signature)))
	out = append(out, '0'+Version, '.')
	out = encoding.AppendEncode(out, body)
	out = encoding.AppendEncode(append(out, '.'), signature)
	if len(out) > MaxSlipBytes {
		return "", fmt.Errorf("%w: %d bytes, at most %d are taken", ErrSlip, len(out), MaxSlipBytes)
	}
	return string(out), nil
}
