package claimcheck

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Errors of headers and links.
var (
	// ErrSignature: not signed, or not by us, or changed.
	ErrSignature = errors.New("claim is not signed by us")
	// ErrOwner: signed by us, but for another channel, or another namespace.
	ErrOwner = errors.New("claim belongs to another channel")
	// ErrExpired: a link whose time is over.
	ErrExpired = errors.New("link has expired")
)

// MaxHeader is how long an encoded claim can be, in characters.
const MaxHeader = 2048

// formatVersion is the first byte of a header's message.
const formatVersion = 1

// urlText is URL-safe; Strict, so that one claim has one encoding.
var urlText = base64.RawURLEncoding.Strict()

// decode reads what urlText wrote. The package skips line breaks; we do not.
func decode(s string) ([]byte, error) {
	if len(s) > MaxHeader {
		return nil, fmt.Errorf("%w: %d characters", ErrSignature, len(s))
	}
	b, err := urlText.DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("%w: not base64", ErrSignature)
	}
	return b, nil
}

// Header encodes and signs a claim for a record of c.Owner. It fails only for
// claims that no Checkroom made.
func (k *Keys) Header(c Claim) (string, error) {
	if err := c.validate(); err != nil {
		return "", fmt.Errorf("encode claim: %w", err)
	}
	return urlText.EncodeToString(k.sign(forHeader, appendClaim([]byte{formatVersion}, &c))), nil
}

// ParseHeader reads what Header made, from a record of owner. ErrSignature and
// ErrOwner mean that the record's payload is not a claim.
func (k *Keys) ParseHeader(header, owner string) (Claim, error) {
	signed, err := decode(header)
	if err != nil {
		return Claim{}, err
	}
	message, ok := k.verify(forHeader, signed)
	if !ok {
		return Claim{}, ErrSignature
	}
	c, err := parseMessage(message)
	if err != nil {
		return Claim{}, fmt.Errorf("%w: of another version", ErrSignature)
	}
	if c.Owner != owner {
		return Claim{}, fmt.Errorf("%w: of %s, in a record of %.80q", ErrOwner, c.Owner, owner)
	}
	return c, nil
}

// appendClaim writes the fields in order: strings and numbers with their
// lengths, hashes as they are.
func appendClaim(b []byte, c *Claim) []byte {
	for _, s := range []string{c.Store, c.Object, c.Owner, c.ContentType} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(c.Size))
	b = binary.AppendUvarint(b, uint64(c.Expires.Unix()))
	b = append(b, c.SHA256[:]...)
	return append(b, c.Blocks[:]...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errFormat = errors.New("malformed claim")

// parseMessage reads a version and what appendClaim wrote.
func parseMessage(b []byte) (c Claim, err error) {
	if len(b) == 0 || b[0] != formatVersion {
		return Claim{}, errFormat
	}
	d := decoder{b: b[1:]}
	for _, s := range []*string{&c.Store, &c.Object, &c.Owner, &c.ContentType} {
		*s = d.text()
	}
	c.Size = d.number()
	c.Expires = d.time()
	d.bytes(c.SHA256[:])
	d.bytes(c.Blocks[:])
	if d.bad || len(d.b) != 0 {
		return Claim{}, errFormat
	}
	if err := c.validate(); err != nil {
		return Claim{}, err
	}
	return c, nil
}

// decoder reads fields until one is bad.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) number() int64 {
	n, size := binary.Uvarint(d.b)
	if d.bad || size <= 0 || n > math.MaxInt64 {
		d.bad = true
		return 0
	}
	d.b = d.b[size:]
	return int64(n)
}

func (d *decoder) time() time.Time {
	n := d.number()
	if n > 1<<40 {
		d.bad = true
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

func (d *decoder) text() string {
	n := d.number()
	if d.bad || n > int64(len(d.b)) {
		d.bad = true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) bytes(p []byte) {
	if d.bad || len(d.b) < len(p) {
		d.bad = true
		return
	}
	d.b = d.b[copy(p, d.b):]
}
