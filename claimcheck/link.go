package claimcheck

import (
	"context"
	"encoding/binary"
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
// The path says everything that is needed to serve it, signed:
//
//	/claims/ base64url( version | claim | expiry | key id | HMAC-SHA256 )
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
	message := appendClaim([]byte{formatVersion}, &c)
	message = binary.AppendUvarint(message, uint64(expires.Unix()))
	return LinkPath + urlText.EncodeToString(r.keys.sign(forLink, message)), nil
}

// ParseLink reads a path that Link made. ErrSignature and ErrExpired say why
// it is not to be served.
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
	c, rest, err := parseMessage(message)
	if err != nil {
		return Claim{}, time.Time{}, fmt.Errorf("%w: of another version", ErrSignature)
	}
	d := decoder{b: rest}
	expires := d.time()
	if d.bad || len(d.b) != 0 {
		return Claim{}, time.Time{}, fmt.Errorf("%w: of another version", ErrSignature)
	}
	if r.now().After(expires) {
		return Claim{}, time.Time{}, fmt.Errorf("%w at %s", ErrExpired, expires.Format(time.RFC3339))
	}
	return c, expires, nil
}
