package claimcheck

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// Claim is a stored payload, and all that is needed to read it and to believe
// what is read. It is a value: carrying it forward makes another one.
type Claim struct {
	// Store is the id of the store it is in.
	Store string
	// Object is its name there, made by Store.
	Object string
	// Owner is the channel, "namespace/name", whose record refers to it.
	Owner string
	// ContentType is that of the payload, as its sender gave it; may be empty.
	ContentType string
	// Size in bytes, of the payload alone.
	Size int64
	// SHA256 is that of the payload.
	SHA256 [sha256.Size]byte
	// Blocks is the SHA-256 of the trailer that follows the payload in the
	// object, by which each block of it can be held to SHA256.
	Blocks [sha256.Size]byte
	// Expires is until when the object is kept without anybody's doing, in whole
	// seconds. A record that refers to it keeps it longer; so does a link.
	Expires time.Time
}

// BlockSize is how much of a payload can be verified by itself, and so what a
// range costs in memory.
const BlockSize = 1 << 20

// Limits of a claim's fields, in bytes. They bound the header.
const (
	MaxOwner       = 320 // two names of Kubernetes, and a slash
	MaxContentType = 512
	MaxStoreID     = 64
)

// Namespace of the owner.
func (c *Claim) Namespace() string {
	ns, _, _ := strings.Cut(c.Owner, "/")
	return ns
}

// validate tells whether c could have been made by Store.
func (c *Claim) validate() error {
	if err := validateOwner(c.Owner); err != nil {
		return err
	}
	return c.locates()
}

// locates tells whether c leads to a payload, of its owner's namespace. Of a link
// that is all there is to say of the owner.
func (c *Claim) locates() error {
	if c.Store == "" || len(c.Store) > MaxStoreID {
		return fmt.Errorf("store id of %d bytes", len(c.Store))
	}
	if len(c.ContentType) > MaxContentType {
		return fmt.Errorf("content type of %d bytes", len(c.ContentType))
	}
	if k, ok := parsePayload(c.Object); !ok || k.namespace != c.Namespace() {
		return fmt.Errorf("%w: %.80q is not a payload's", ErrName, c.Object)
	}
	if c.Size < 0 {
		return fmt.Errorf("size %d", c.Size)
	}
	return nil
}

func validateOwner(owner string) error {
	ns, name, ok := strings.Cut(owner, "/")
	if !ok || !isLabel(ns) || name == "" || strings.Contains(name, "/") || len(owner) > MaxOwner {
		return fmt.Errorf("owner %.80q is not namespace/name", owner)
	}
	return nil
}
