package standalone

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

// ensureSlipKey makes an Ed25519 key pair in PEM, PKCS #8 in file and PKIX in
// file.pub, unless file exists; then it must hold such a key. It returns the
// private one.
func ensureSlipKey(file string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeSlipKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read slip key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("read slip key %s: no PEM block; want a PKCS #8 Ed25519 private key", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read slip key %s: %w", file, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read slip key %s: a %T; want an Ed25519 private key", file, key)
	}
	return private, nil
}

func makeSlipKey(file string) (ed25519.PrivateKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make slip key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("make slip key: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("make slip key: %w", err)
	}
	// The public half first: who finds the private one finds both.
	for _, f := range []struct {
		name, kind string
		der        []byte
		mode       fs.FileMode
	}{
		{file + ".pub", "PUBLIC KEY", pub, 0o644},
		{file, "PRIVATE KEY", der, 0o600},
	} {
		b := pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})
		if err := os.WriteFile(f.name, b, f.mode); err != nil {
			return nil, fmt.Errorf("make slip key: %w", err)
		}
	}
	return private, nil
}
