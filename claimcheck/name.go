package claimcheck

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Names say all that must be known of an object's life, so that no clock but
// ours, and no second look at the store, is needed:
//
//	payload/<namespace>/<random>-<expiry>              a payload and its block hashes
//	renewed/<namespace>/<random>-<expiry>.<expiry>     empty: lives until then
//	linked/<namespace>/<random>-<expiry>.<expiry>      empty: a link to it does
//
// <namespace> is that of all channels that may refer to it, <random> is 128 bits, <expiry> Unix
// seconds, both in hexadecimal. Marks are only ever added while the payload is there:
// two processes that renew at once cannot undo each other's work.
const (
	payloads = "payload/"
	renewals = "renewed/"
	links    = "linked/"

	maxName      = 200
	maxNamespace = 63 // RFC 1123, a label
	randSize     = 16 // bytes
)

// ValidName returns an error that wraps ErrName unless name is what every store
// takes: 1 to 200 characters of [a-z0-9._-], in parts divided by single slashes, none
// of which begins with a dot.
func ValidName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%w: %d characters", ErrName, len(name))
	}
	start := true // of a part
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-', c == '.' && !start:
			start = false
		case c == '/' && !start:
			start = true
		default:
			return fmt.Errorf("%w: %q", ErrName, name)
		}
	}
	if start {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}

// key is a payload's name without its folder.
type key struct {
	namespace string
	random    string // in hexadecimal
	expires   time.Time
}

func newKey(owner string, expires time.Time) key {
	namespace, _, _ := strings.Cut(owner, "/")
	var random [randSize]byte
	_, _ = rand.Read(random[:]) // never fails
	return key{namespace, hex.EncodeToString(random[:]), wholeSeconds(expires)}
}

func (k key) String() string {
	return k.namespace + "/" + k.random + "-" + strconv.FormatInt(k.expires.Unix(), 16)
}
func (k key) payload() string { return payloads + k.String() }

// mark is the name of a mark in folder that holds until t.
func (k key) mark(folder string, t time.Time) string {
	return k.marks(folder) + strconv.FormatInt(wholeSeconds(t).Unix(), 16)
}

// marks is what the names of its marks in folder begin with.
func (k key) marks(folder string) string { return folder + k.String() + "." }

// wholeSeconds rounds up.
func wholeSeconds(t time.Time) time.Time {
	s := t.Truncate(time.Second)
	if s.Before(t) {
		s = s.Add(time.Second)
	}
	return time.Unix(s.Unix(), 0).UTC()
}

// parsePayload reads a payload's name; nothing else passes for one.
func parsePayload(name string) (key, bool) {
	rest, ok := strings.CutPrefix(name, payloads)
	if !ok {
		return key{}, false
	}
	return parseKey(rest)
}

// parseMark reads the name of a mark in folder.
func parseMark(folder, name string) (k key, until time.Time, ok bool) {
	rest, ok := strings.CutPrefix(name, folder)
	if !ok {
		return key{}, time.Time{}, false
	}
	of, at, ok := strings.Cut(rest, ".")
	if !ok {
		return key{}, time.Time{}, false
	}
	if k, ok = parseKey(of); !ok {
		return key{}, time.Time{}, false
	}
	until, ok = parseTime(at)
	return k, until, ok
}

func parseKey(s string) (key, bool) {
	namespace, rest, ok := strings.Cut(s, "/")
	if !ok || !isLabel(namespace) || len(rest) < 2*randSize+2 || rest[2*randSize] != '-' {
		return key{}, false
	}
	random := rest[:2*randSize]
	t, ok := parseTime(rest[2*randSize+1:])
	return key{namespace, random, t}, ok && isHex(random)
}

// isLabel tells whether s can be the name of a namespace (RFC 1123, section 2.1).
func isLabel(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxNamespace && s[0] != '-' && s[len(s)-1] != '-'
}

// parseTime takes only what FormatInt would have written.
func parseTime(s string) (time.Time, bool) {
	n, err := strconv.ParseInt(s, 16, 64)
	if err != nil || n < 0 || n > 1<<40 || strconv.FormatInt(n, 16) != s {
		return time.Time{}, false
	}
	return time.Unix(n, 0).UTC(), true
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}
