package wire

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Skew is how far the clocks of a dispatcher and a pod may differ.
const Skew = 30 * time.Second

// MaxKeys bounds the keys of a Verifier: a forged slip costs a check against
// each.
const MaxKeys = 16

// Why a Verifier refuses a slip, beside ErrSlip and ErrVersion. They are wrapped.
var (
	ErrForged   = errors.New("slip is not signed by a trusted key")
	ErrExpired  = errors.New("slip has expired")
	ErrOtherPod = errors.New("slip is for another pod")
)

// Verifier checks slips for one pod, and keeps those that were good: a chain that
// runs again costs a look-up. T is what the caller makes of a slip, once.
type Verifier[T any] struct {
	pod, namespace string
	prepare        func(*Slip) (T, error)
	now            func() time.Time

	mu    sync.RWMutex
	keys  []ed25519.PublicKey
	slips map[string]verified[T] // by header
	bytes int
}

type verified[T any] struct {
	expires time.Time
	value   T
}

// maxVerified bounds a Verifier's cache, in bytes of header.
const maxVerified = 2 << 20

// NewVerifier makes a Verifier that trusts nobody yet. An empty namespace: any
// will do. prepare may refuse a slip that is well signed; it is called from
// whatever goroutine calls Verify.
func NewVerifier[T any](pod, namespace string, prepare func(*Slip) (T, error)) *Verifier[T] {
	return &Verifier[T]{
		pod: pod, namespace: namespace, prepare: prepare, now: time.Now,
		slips: make(map[string]verified[T]),
	}
}

// Trust replaces the keys. Slips that were good under the former ones are
// checked again.
func (v *Verifier[T]) Trust(keys []ed25519.PublicKey) error {
	if len(keys) > MaxKeys {
		return fmt.Errorf("%d keys, at most %d are taken", len(keys), MaxKeys)
	}
	for i, k := range keys {
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("key %d has %d bytes, want %d", i, len(k), ed25519.PublicKeySize)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys = slices.Clone(keys)
	clear(v.slips)
	v.bytes = 0
	return nil
}

// Verify is what prepare made of the slip in a header's value, which may be a
// view of a buffer. Errors: ErrSlip, ErrVersion, ErrForged, ErrExpired,
// ErrOtherPod and those of prepare.
func (v *Verifier[T]) Verify(header string) (T, error) {
	now := v.now()
	v.mu.RLock()
	e, ok := v.slips[header]
	keys := v.keys
	v.mu.RUnlock()
	if ok {
		if e.expires.Add(Skew).Before(now) {
			var none T
			return none, ErrExpired
		}
		return e.value, nil
	}
	slip, err := v.check(header, keys, now)
	if err != nil {
		var none T
		return none, err
	}
	value, err := v.prepare(slip)
	if err != nil {
		var none T
		return none, err
	}
	v.keep(strings.Clone(header), verified[T]{slip.Expires, value}, keys, now)
	return value, nil
}

// check does what is cheap first: whoever floods with what is not for this pod
// should not have signatures verified.
func (v *Verifier[T]) check(header string, keys []ed25519.PublicKey, now time.Time) (*Slip, error) {
	if len(header) > MaxSlipBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrSlip, len(header), MaxSlipBytes)
	}
	body, signature, err := open(header)
	if err != nil {
		return nil, err
	}
	slip, err := parseSlip(body[len(domain):])
	if err != nil {
		return nil, err
	}
	switch {
	case slip.Pod != v.pod:
		return nil, fmt.Errorf("%w: %s, this is %s", ErrOtherPod, slip.Pod, v.pod)
	case v.namespace != "" && slip.Namespace != v.namespace:
		return nil, fmt.Errorf("%w: in namespace %q, this is %q", ErrOtherPod, slip.Namespace, v.namespace)
	case slip.Expires.Add(Skew).Before(now):
		return nil, ErrExpired
	case slip.Expires.After(now.Add(Lifetime + Skew)):
		return nil, fmt.Errorf("%w: it is valid for more than %v", ErrSlip, Lifetime)
	}
	message := []byte(body)
	for _, k := range keys {
		if ed25519.Verify(k, message, signature) {
			return slip, nil
		}
	}
	return nil, ErrForged
}

// open takes a header apart. body has the domain before it.
func open(header string) (body string, signature []byte, err error) {
	rest, _, err := cutVersion(header, ".")
	if err != nil {
		return "", nil, err
	}
	head, tail, ok := strings.Cut(rest, ".")
	if !ok || len(tail) != encoding.EncodedLen(ed25519.SignatureSize) {
		return "", nil, fmt.Errorf("%w: malformed", ErrSlip)
	}
	b, err := encoding.Strict().AppendDecode([]byte(domain), []byte(head))
	if err != nil {
		return "", nil, fmt.Errorf("%w: not in base64", ErrSlip)
	}
	signature, err = encoding.Strict().DecodeString(tail)
	if err != nil {
		return "", nil, fmt.Errorf("%w: its signature is not in base64", ErrSlip)
	}
	return string(b), signature, nil
}

// keep remembers a slip that was good under keys, unless others are trusted now.
func (v *Verifier[T]) keep(header string, e verified[T], keys []ed25519.PublicKey, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.slips[header]; known || !sameKeys(v.keys, keys) {
		return
	}
	size := len(header) + entryOverhead
	if v.bytes+size > maxVerified {
		for h, e := range v.slips {
			if e.expires.Add(Skew).Before(now) {
				v.drop(h)
			}
		}
	}
	for h := range v.slips { // whichever comes first
		if v.bytes+size <= maxVerified {
			break
		}
		v.drop(h)
	}
	v.slips[header] = e
	v.bytes += size
}

func (v *Verifier[T]) drop(header string) {
	v.bytes -= len(header) + entryOverhead
	delete(v.slips, header)
}

// sameKeys tells whether two lists are one and the same, as Trust makes a new
// one each time.
func sameKeys(a, b []ed25519.PublicKey) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
