package ring

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"time"

	"github.com/sidestep-dev/sidestep/internal/slipkey"
)

// Slips is the ring of the key that dispatchers sign slips with. A change is heard of
// within about two minutes: that is how long a kubelet may take to renew a volume. A
// slip may be used for five more.
func Slips() *Ring {
	return &Ring{
		Make: func(time.Time) ([]byte, error) {
			private, _, err := slipkey.Make()
			return private, err
		},
		Public: publicSlipKey,
		Usable: func(key []byte, _ time.Time) error {
			_, err := slipkey.Parse(key)
			return err
		},
		Age:     90 * 24 * time.Hour,
		Overlap: 10 * time.Minute,
	}
}

func publicSlipKey(key []byte) ([]byte, error) {
	private, err := slipkey.Parse(key)
	if err != nil {
		return nil, err
	}
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("no Ed25519 key")
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
