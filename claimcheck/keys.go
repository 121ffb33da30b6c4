package claimcheck

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
)

// minKey is how long a secret must be, in bytes.
const minKey = 32

// keyIDSize is how many bytes of a key's hash name it.
const keyIDSize = 4

// How many bytes of an HMAC-SHA256 are kept: all in a header; in a link, which
// travels with every hop and is valid for a while only, the half that RFC 2104,
// section 5, asks for at least.
const (
	headerMAC = sha256.Size
	linkMAC   = sha256.Size / 2
)

// Keys sign headers and links. The first secret signs; all of them verify, so
// that a rotation overlaps: add the new one at the end everywhere, then move it to the
// front, then take the old one away when what it signed has expired. A secret has at
// least 32 random bytes. Every process of an installation has the same ones.
type Keys struct {
	keys []signingKey
}

type signingKey struct {
	id           [keyIDSize]byte
	header, link []byte
}

// NewKeys derives keys from secrets: one for each use, so that what is signed
// for one is worth nothing for another.
func NewKeys(secrets ...[]byte) (*Keys, error) {
	if len(secrets) == 0 {
		return nil, errors.New("claim check: no signing key")
	}
	k := &Keys{}
	for i, secret := range secrets {
		if len(secret) < minKey {
			return nil, fmt.Errorf("claim check: signing key %d has %d bytes, needs %d", i, len(secret), minKey)
		}
		key, err := deriveKey(secret)
		if err != nil {
			return nil, fmt.Errorf("claim check: signing key %d: %w", i, err)
		}
		k.keys = append(k.keys, key)
	}
	return k, nil
}

func deriveKey(secret []byte) (k signingKey, err error) {
	id, err := hkdf.Key(sha256.New, secret, nil, "sidestep claim key id v1", keyIDSize)
	if err != nil {
		return k, err
	}
	copy(k.id[:], id)
	if k.header, err = hkdf.Key(sha256.New, secret, nil, "sidestep claim header v1", sha256.Size); err != nil {
		return k, err
	}
	k.link, err = hkdf.Key(sha256.New, secret, nil, "sidestep claim link v2", sha256.Size)
	return k, err
}

// use is what something is signed for: by which of the keys derived from a
// secret, and with how much of the MAC.
type use struct {
	key func(*signingKey) []byte
	mac int
}

var (
	forHeader = use{func(k *signingKey) []byte { return k.header }, headerMAC}
	forLink   = use{func(k *signingKey) []byte { return k.link }, linkMAC}
)

// sign appends key id and MAC to a message.
func (k *Keys) sign(u use, message []byte) []byte {
	first := &k.keys[0]
	message = append(message, first.id[:]...)
	return append(message, u.sum(first, message)...)
}

// verify returns the message of what sign made, or false.
func (k *Keys) verify(u use, signed []byte) ([]byte, bool) {
	if len(signed) < keyIDSize+u.mac {
		return nil, false
	}
	body, sum := signed[:len(signed)-u.mac], signed[len(signed)-u.mac:]
	message, id := body[:len(body)-keyIDSize], body[len(body)-keyIDSize:]
	for i := range k.keys {
		if key := &k.keys[i]; string(key.id[:]) == string(id) && hmac.Equal(u.sum(key, body), sum) {
			return message, true
		}
	}
	return nil, false
}

func (u use) sum(k *signingKey, message []byte) []byte {
	h := hmac.New(sha256.New, u.key(k))
	h.Write(message)
	return h.Sum(nil)[:u.mac]
}
