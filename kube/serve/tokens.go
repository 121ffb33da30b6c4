package serve

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// maxTokens bounds the tokens that are remembered: about 1 MiB.
const maxTokens = 4096

// tokens remembers those that were verified, until they expire: to verify a signature
// costs more than all else that is done with an event. What the policies say of whose
// token it is, is asked each time. The one that was used longest ago is forgotten first.
type tokens struct {
	now func() time.Time // nil: time.Now

	mu    sync.Mutex
	known map[tokenKey]*list.Element
	order list.List // of *token, the last used first
}

// tokenKey is the hash of a token with the audience that it was verified for: no token
// is kept.
type tokenKey [sha256.Size]byte

type token struct {
	key     tokenKey
	expires time.Time
}

func keyOf(audience, authorization string) tokenKey {
	return sha256.Sum256([]byte(audience + "\x00" + authorization))
}

func (t *tokens) time() time.Time {
	if t.now != nil {
		return t.now()
	}
	return time.Now()
}

// has tells whether a token was verified and has not expired.
func (t *tokens) has(key tokenKey) bool {
	now := t.time()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.known[key]
	if e == nil {
		return false
	}
	if k, _ := e.Value.(*token); !now.Before(k.expires) {
		t.forget(e)
		return false
	}
	t.order.MoveToFront(e)
	return true
}

// add a token that was verified.
func (t *tokens) add(key tokenKey, expires time.Time) {
	if !t.time().Before(expires) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known[key] != nil {
		return
	}
	if t.known == nil {
		t.known = make(map[tokenKey]*list.Element)
	}
	for len(t.known) >= maxTokens {
		t.forget(t.order.Back())
	}
	t.known[key] = t.order.PushFront(&token{key, expires})
}

// forget is called with t.mu held.
func (t *tokens) forget(e *list.Element) {
	k, _ := t.order.Remove(e).(*token)
	delete(t.known, k.key)
}
