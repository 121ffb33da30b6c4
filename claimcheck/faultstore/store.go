// Package faultstore wraps any claimcheck.Store, for tests: its calls fail when a
// plan says so, and are counted.
//
//	Checkroom --> Store: plan? --> error
//	                     '-- none --> the store inside
package faultstore

import (
	"context"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// Op is a call of a Store; Read is one of a reader that Open returned.
type Op string

// The calls that can fail.
const (
	Put    Op = "put"
	Open   Op = "open"
	Read   Op = "read"
	Delete Op = "delete"
	List   Op = "list"
)

// Plan tells what a call about an object fails with; nil: it does not. It may block,
// and is called by many goroutines at once.
type Plan func(op Op, name string) error

// Store is a claimcheck.Store with a Plan.
type Store struct {
	claimcheck.Store
	mu    sync.Mutex
	plan  Plan
	calls map[Op]int
}

var _ claimcheck.Store = (*Store)(nil)

// New wraps a store. Close closes it, too.
func New(inner claimcheck.Store) *Store {
	return &Store{Store: inner, calls: map[Op]int{}}
}

// SetPlan replaces the plan; nil is none.
func (s *Store) SetPlan(p Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = p
}

// Down has every call fail with err, until it is nil.
func (s *Store) Down(err error) { s.SetPlan(func(Op, string) error { return err }) }

// Calls is how many of an operation there were.
func (s *Store) Calls(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Payloads are the names of the payloads inside, whatever the plan.
func (s *Store) Payloads(ctx context.Context) (names []string, err error) {
	for o, err := range s.Store.List(ctx, "payload/") {
		if err != nil {
			return nil, err
		}
		names = append(names, o.Name)
	}
	return names, nil
}

// Overwrite changes what is stored, behind everybody's back.
func (s *Store) Overwrite(ctx context.Context, name string, change func([]byte) []byte) error {
	r, err := s.Store.Open(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return s.Store.Put(ctx, name, strings.NewReader(string(change(b))))
}

func (s *Store) do(op Op, name string) error {
	s.mu.Lock()
	s.calls[op]++
	p := s.plan
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	return p(op, name)
}

// Put implements claimcheck.Store.
func (s *Store) Put(ctx context.Context, name string, r io.Reader) error {
	if err := s.do(Put, name); err != nil {
		return err
	}
	return s.Store.Put(ctx, name, r)
}

// Open implements claimcheck.Store.
func (s *Store) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := s.do(Open, name); err != nil {
		return nil, err
	}
	r, err := s.Store.Open(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	return &reader{r, s, name}, nil
}

type reader struct {
	io.ReadCloser
	s    *Store
	name string
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.s.do(Read, r.name); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}

// Delete implements claimcheck.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.do(Delete, name); err != nil {
		return err
	}
	return s.Store.Delete(ctx, name)
}

// List implements claimcheck.Store.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[claimcheck.Object, error] {
	if err := s.do(List, prefix); err != nil {
		return func(yield func(claimcheck.Object, error) bool) { yield(claimcheck.Object{}, err) }
	}
	return s.Store.List(ctx, prefix)
}
