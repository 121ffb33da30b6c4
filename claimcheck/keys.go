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

// macSize is how many bytes of an HMAC-SHA256 are kept: all.
const macSize = sha256.Size

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
	if k.header, err = hkdf.Key(sha256.New, secret, nil, "sidestep claim header v1", macSize); err != nil {
		return k, err
	}
	k.link, err = hkdf.Key(sha256.New, secret, nil, "sidestep claim link v1", macSize)
	return k, err
}

// use picks one of the keys derived from a secret.
type use func(*signingKey) []byte

func forHeader(k *signingKey) []byte { return k.header }
func forLink(k *signingKey) []byte   { return k.link }

// sign appends key id and MAC to a message.
func (k *Keys) sign(u use, message []byte) []byte {
	first := &k.keys[0]
	message = append(message, first.id[:]...)
	return append(message, mac(u(first), message)...)
}

// verify returns the message of what sign made, or false.
func (k *Keys) verify(u use, signed []byte) ([]byte, bool) {
	if len(signed) < keyIDSize+macSize {
		return nil, false
	}
	body, sum := signed[:len(signed)-macSize], signed[len(signed)-macSize:]
	message, id := body[:len(body)-keyIDSize], body[len(body)-keyIDSize:]
	for i := range k.keys {
		if key := &k.keys[i]; string(key.id[:]) == string(id) && hmac.Equal(mac(u(key), body), sum) {
			return message, true
		}
	}
	return nil, false
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}
