// Package slipkey makes and reads the key that slips are signed with: what a sidecar
// is to run, see colocate/wire.
package slipkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// File is the key in a file, which is made, and the public half in FILE.pub, unless
// it exists; then it must hold such a key.
func File(file string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read slip key: %w", err)
	}
	key, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("read slip key %s: %w", file, err)
	}
	return key, nil
}

// Parse reads a private key in PEM, PKCS #8.
func Parse(b []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM block; want a PKCS #8 Ed25519 private key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a %T; want an Ed25519 private key", key)
	}
	return private, nil
}

// Make makes a key pair in PEM: PKCS #8 and PKIX.
func Make() (private, public []byte, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make slip key: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make slip key: %w", err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, nil, fmt.Errorf("make slip key: %w", err)
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})
	return private, public, nil
}

func makeFile(file string) (ed25519.PrivateKey, error) {
	private, public, err := Make()
	if err != nil {
		return nil, err
	}
	// The public half first: who finds the private one finds both.
	err = os.WriteFile(file+".pub", public, 0o644)
	if err == nil {
		err = os.WriteFile(file, private, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("make slip key: %w", err)
	}
	return Parse(private)
}
