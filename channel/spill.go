package channel

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

// A spill is an event given back from the middle of a chain to the channel of
// the step that it was entering. What the chain tried already travels with it
// in one internal header, so that the durable path continues from there
// instead of starting anew:
//
//	sidestep-tried: 1;<subscription UID>;<attempts>;<not before, unix ms>;
//	                <status>;<retry after, ms>;<base64 body>;<base64 error>;<base64 mac>
//
// It is signed: a broker is shared with others who may write to its logs, and
// "already failed with 400" would be a way to have any event dead-lettered
// unseen. The signature covers the event's id and source, so that a header
// cannot be moved to another event.
const (
	triedHeader  = "sidestep-tried"
	triedVersion = "1"
	triedFields  = 9

	// maxSpillError bounds the error text that travels, in bytes.
	maxSpillError = 256
	// maxSpillHeader bounds the header: the UID and the numbers, and body
	// and error in base64.
	maxSpillHeader = 512 + (egress.MaxErrorBody+maxSpillError+sha256.Size)*4/3
)

// signer makes and checks the signatures of internal headers. The zero value
// has no key and must not be used.
type signer struct{ key []byte }

func (s signer) mac(e *event.Event, payload string) []byte {
	h := hmac.New(sha256.New, s.key)
	for _, part := range [...]string{e.ID, e.Source, payload} {
		// The lengths keep ("a","bc") and ("ab","c") apart.
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return h.Sum(nil)
}

// header tells the subscription uid what was tried with e.
func (s signer) header(e *event.Event, uid string, t *egress.Tried) backend.Header {
	var text string
	if t.Last.Err != nil {
		text = t.Last.Err.Error()
	}
	b64 := base64.RawURLEncoding.EncodeToString
	payload := strings.Join([]string{
		triedVersion,
		uid,
		strconv.Itoa(t.Attempts),
		strconv.FormatInt(t.NotBefore.UnixMilli(), 10),
		strconv.Itoa(t.Last.Status),
		strconv.FormatInt(t.Last.RetryAfter.Milliseconds(), 10),
		b64(t.Last.Body[:min(len(t.Last.Body), egress.MaxErrorBody)]),
		b64([]byte(text[:min(len(text), maxSpillError)])),
	}, ";")
	return backend.Header{Name: triedHeader, Value: payload + ";" + b64(s.mac(e, payload))}
}

// errForged: an internal header was not made by a holder of our key.
var errForged = errors.New("signature does not match")

// tried reads what was tried with e for the subscription uid. A record without
// the header, or with one meant for another subscription (the channel got a
// second one since), was not tried: the zero Tried.
func (s signer) tried(r *backend.Record, e *event.Event, uid string) (egress.Tried, error) {
	var value string
	for i := range r.Header {
		if r.Header[i].Name == triedHeader {
			value = r.Header[i].Value
			break
		}
	}
	if value == "" {
		return egress.Tried{}, nil
	}
	t, err := s.parse(value, e, uid)
	if err != nil {
		return egress.Tried{}, fmt.Errorf("read header %s: %w", triedHeader, err)
	}
	return t, nil
}

func (s signer) parse(value string, e *event.Event, uid string) (egress.Tried, error) {
	f := strings.Split(value, ";")
	if len(f) != triedFields || f[0] != triedVersion {
		return egress.Tried{}, fmt.Errorf("%d fields of version %.8q, want %d of version %s",
			len(f), f[0], triedFields, triedVersion)
	}
	mac, err := base64.RawURLEncoding.DecodeString(f[8])
	if err != nil {
		return egress.Tried{}, err
	}
	if !hmac.Equal(mac, s.mac(e, value[:strings.LastIndexByte(value, ';')])) {
		return egress.Tried{}, errForged
	}
	if f[1] != uid {
		return egress.Tried{}, nil
	}
	var n [4]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(f[2+i], 10, 64); err != nil {
			return egress.Tried{}, err
		}
	}
	body, err := base64.RawURLEncoding.DecodeString(f[6])
	if err != nil {
		return egress.Tried{}, err
	}
	text, err := base64.RawURLEncoding.DecodeString(f[7])
	if err != nil {
		return egress.Tried{}, err
	}
	return egress.Tried{
		Attempts:  int(n[0]),
		NotBefore: time.UnixMilli(n[1]),
		Last: egress.Result{
			Status:     int(n[2]),
			RetryAfter: time.Duration(n[3]) * time.Millisecond,
			Body:       body,
			Attempts:   int(n[0]),
			Err:        errors.New(string(text)),
		},
	}, nil
}
