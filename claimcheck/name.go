package claimcheck

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Names say all that must be known of an object's life, so that no clock but
// ours, and no second look at the store, is needed:
//
//	payload/<owner>/<random>-<expiry>              a payload and its block hashes
//	renewed/<owner>/<random>-<expiry>.<expiry>     empty: lives until then
//	linked/<owner>/<random>-<expiry>.<expiry>      empty: a link to it does
//
// <owner> are 80 bits of the SHA-256 of the owner channel, <random> is 128 bits,
// <expiry> Unix seconds; all in hexadecimal. Marks are only ever added while the payload is there:
// two processes that renew at once cannot undo each other's work.
const (
	payloads = "payload/"
	renewals = "renewed/"
	links    = "linked/"

	maxName   = 200
	ownerSize = 10 // bytes
	randSize  = 16
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

// key is a payload's name without its folder: "<owner>/<random>-<expiry>".
type key struct {
	id      string // "<owner>/<random>"
	expires time.Time
}

func newKey(owner string, expires time.Time) key {
	sum := sha256.Sum256([]byte(owner))
	var random [randSize]byte
	_, _ = rand.Read(random[:]) // never fails
	return key{hex.EncodeToString(sum[:ownerSize]) + "/" + hex.EncodeToString(random[:]), wholeSeconds(expires)}
}

func (k key) String() string  { return k.id + "-" + strconv.FormatInt(k.expires.Unix(), 16) }
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
	const idSize = 2*ownerSize + 1 + 2*randSize
	if len(s) < idSize+2 || s[2*ownerSize] != '/' || s[idSize] != '-' {
		return key{}, false
	}
	if !isHex(s[:2*ownerSize]) || !isHex(s[2*ownerSize+1:idSize]) {
		return key{}, false
	}
	t, ok := parseTime(s[idSize+1:])
	return key{s[:idSize], t}, ok
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
