package claimcheck

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// LinkPath begins the paths of links, at the address of whoever serves
// Checkroom.Handler.
const LinkPath = "/claims/"

// linkGrid is what the time of a link's mark is rounded up to, so that many links
// to one payload make one mark.
const linkGrid = 15 * time.Minute

// Link makes a link to a payload, valid for ttl: a path, to be put after the
// address of the server. Whoever has it can read the payload, and nothing else.
// The payload is kept until then, whatever becomes of its records.
//
// The path says everything that is needed to serve it, signed, and nothing else, as
// it travels with every hop:
//
//	/claims/ base64url( version | store | object | content type | size | Blocks | expiry | key id | HMAC-SHA256, 16 bytes )
func (r *Checkroom) Link(ctx context.Context, c Claim, ttl time.Duration) (string, error) {
	if err := c.validate(); err != nil {
		return "", fmt.Errorf("link to payload: %w", err)
	}
	expires := wholeSeconds(r.now().Add(ttl))
	until := expires.Truncate(linkGrid).Add(linkGrid)
	k, _ := parsePayload(c.Object)
	if name := k.mark(links, until); !r.linked.has(c.Store + " " + name) {
		if err := r.mark(ctx, &c, links, until); err != nil {
			r.notify.Failed(OpRenew, err)
			return "", fmt.Errorf("link to payload of %s: %w", c.Owner, err)
		}
		r.linked.add(c.Store + " " + name)
	}
	return LinkPath + urlText.EncodeToString(r.keys.sign(forLink, appendLink(nil, &c, k, expires))), nil
}

// ParseLink reads a path that Link made. ErrSignature and ErrExpired say why
// it is not to be served. The claim is good for OpenRanges alone: the owner is a namespace, and
// the SHA-256 of the whole is not in it.
func (r *Checkroom) ParseLink(path string) (Claim, time.Time, error) {
	token, ok := strings.CutPrefix(path, LinkPath)
	if !ok {
		return Claim{}, time.Time{}, ErrSignature
	}
	signed, err := decode(token)
	if err != nil {
		return Claim{}, time.Time{}, err
	}
	message, ok := r.keys.verify(forLink, signed)
	if !ok {
		return Claim{}, time.Time{}, ErrSignature
	}
	c, expires, err := parseLink(message)
	if err != nil {
		return Claim{}, time.Time{}, fmt.Errorf("%w: of another version", ErrSignature)
	}
	if r.now().After(expires) {
		return Claim{}, time.Time{}, fmt.Errorf("%w at %s", ErrExpired, expires.Format(time.RFC3339))
	}
	return c, expires, nil
}

// linkVersion is the first byte of a link's token.
const linkVersion = 2

// appendLink writes what a link says of a claim, whose object is k's.
func appendLink(b []byte, c *Claim, k key, expires time.Time) []byte {
	b = append(b, linkVersion)
	b = appendText(appendText(b, c.Store), k.namespace)
	b, _ = hex.AppendDecode(b, []byte(k.random)) // parseKey has seen that it is
	b = binary.AppendUvarint(b, uint64(k.expires.Unix()))
	b = appendText(b, c.ContentType)
	b = binary.AppendUvarint(b, uint64(c.Size))
	b = append(b, c.Blocks[:]...)
	return binary.AppendUvarint(b, uint64(expires.Unix()))
}

// parseLink reads what appendLink wrote.
func parseLink(b []byte) (c Claim, expires time.Time, err error) {
	if len(b) == 0 || b[0] != linkVersion {
		return Claim{}, time.Time{}, errFormat
	}
	d := decoder{b: b[1:]}
	c.Store, c.Owner = d.text(), d.text()
	k := key{namespace: c.Owner}
	var random [randSize]byte
	d.bytes(random[:])
	k.random, k.expires = hex.EncodeToString(random[:]), d.time()
	c.Object, c.Expires = k.payload(), k.expires
	c.ContentType = d.text()
	c.Size = d.number()
	d.bytes(c.Blocks[:])
	expires = d.time()
	if d.bad || len(d.b) != 0 {
		return Claim{}, time.Time{}, errFormat
	}
	return c, expires, c.locates()
}
