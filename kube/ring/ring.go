package ring

import (
	"bytes"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The content of a Secret. Current and Next have both halves, Former the public one.
const (
	Current = "current"
	Next    = "next"
	Former  = "former"
)

// Changed is an annotation of the Secret: when its content was changed last.
const Changed = "sidestep.dev/changed"

// Ring is what is in a Secret, and how long. All is PEM.
type Ring struct {
	// Make makes a key.
	Make func(now time.Time) ([]byte, error)
	// Public is the public half of a key.
	Public func(key []byte) ([]byte, error)
	// Usable tells why a key cannot be used, or not any more.
	Usable func(key []byte, now time.Time) error
	// Age is how long a key signs before there is a next one; Overlap how long it
	// takes until all have heard of a change, and what was signed is used.
	Age, Overlap time.Duration
}

// Turn changes a Secret to what it should be now, and tells whether it did. A Secret
// may be empty. An error changes nothing.
func (r *Ring) Turn(s *corev1.Secret, now time.Time) (changed bool, err error) {
	current := s.Data[Current]
	if len(current) == 0 || r.Usable(current, now) != nil {
		return true, r.begin(s, now)
	}
	next, former := s.Data[Next], s.Data[Former]
	since, err := time.Parse(time.RFC3339, s.Annotations[Changed])
	switch {
	case err != nil && (len(next) > 0 || len(former) > 0):
		stamp(s, now) // in the middle of a turn: its time begins again
		return true, nil
	case err != nil: // or else: begin a turn
	case len(next) == 0 && len(former) == 0 && now.Sub(since) < r.Age:
		return false, nil
	case (len(next) > 0 || len(former) > 0) && now.Sub(since) < r.Overlap:
		return false, nil
	}
	switch {
	case len(next) > 0 && r.Usable(next, now) == nil:
		public, err := r.Public(current)
		if err != nil {
			return false, fmt.Errorf("public half of the former key: %w", err)
		}
		s.Data[Current], s.Data[Former] = next, public
		delete(s.Data, Next)
	case len(former) > 0:
		delete(s.Data, Former)
	default:
		made, err := r.Make(now)
		if err != nil {
			return false, fmt.Errorf("make the next key: %w", err)
		}
		s.Data[Next] = made
	}
	stamp(s, now)
	return true, nil
}

// begin puts a key in that signs at once: there is none, or none that is any good.
func (r *Ring) begin(s *corev1.Secret, now time.Time) error {
	key := s.Data[Next]
	if len(key) == 0 || r.Usable(key, now) != nil {
		var err error
		if key, err = r.Make(now); err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
	}
	s.Data = map[string][]byte{Current: key}
	stamp(s, now)
	return nil
}

func stamp(s *corev1.Secret, now time.Time) {
	if s.Annotations == nil {
		s.Annotations = make(map[string]string)
	}
	s.Annotations[Changed] = now.UTC().Format(time.RFC3339)
}

// Trusted are the public halves of all that is to be trusted, the current one first.
func (r *Ring) Trusted(s *corev1.Secret) ([]byte, error) {
	var all [][]byte
	for _, name := range []string{Current, Next} {
		key := s.Data[name]
		if len(key) == 0 {
			continue
		}
		public, err := r.Public(key)
		if err != nil {
			return nil, fmt.Errorf("public half of the %s key: %w", name, err)
		}
		all = append(all, public)
	}
	return bytes.Join(append(all, s.Data[Former]), nil), nil
}
