package sidecar

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// Keys are files of public keys that slips may be signed with: PEM blocks of
// type PUBLIC KEY with Ed25519 keys, one or more to a file.
type Keys struct {
	// Files are read in order. At least one.
	Files []string
	// Every is how often they are read again. 0: 5 s.
	Every time.Duration
	// Await lets Load succeed while a file is not there yet: then nobody is
	// trusted.
	Await bool
	// Trust takes the keys.
	Trust func([]ed25519.PublicKey) error
	// Logger takes what goes wrong once it has gone well.
	Logger *slog.Logger

	last     []byte // what was read
	awaiting bool
}

// maxKeyFile bounds a file, in bytes.
const maxKeyFile = 64 << 10

// Load reads the files, and has the keys trusted if anything has changed.
func (k *Keys) Load() error {
	var all []byte
	var keys []ed25519.PublicKey
	for _, name := range k.Files {
		b, err := readFile(name)
		if errors.Is(err, fs.ErrNotExist) && k.Await && k.last == nil {
			if !k.awaiting {
				k.Logger.Warn("trusts nobody yet: waiting for keys", "file", name)
			}
			k.awaiting = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("read trusted keys: %w", err)
		}
		some, err := parseKeys(b)
		if err != nil {
			return fmt.Errorf("read trusted keys: %s: %w", name, err)
		}
		keys = append(keys, some...)
		all = append(append(all, b...), 0)
	}
	if len(keys) > wire.MaxKeys {
		return fmt.Errorf("read trusted keys: there are %d, at most %d can be", len(keys), wire.MaxKeys)
	}
	if k.last != nil && bytes.Equal(all, k.last) {
		return nil
	}
	if err := k.Trust(keys); err != nil {
		return err
	}
	k.last = all
	return nil
}

// Watch loads the files again and again until ctx ends. While they cannot be read
// the former keys stay.
func (k *Keys) Watch(ctx context.Context) {
	every := k.Every
	if every == 0 {
		every = 5 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		text := ""
		if err := k.Load(); err != nil {
			text = err.Error()
		}
		if text != "" && text != failed {
			k.Logger.Warn("the trusted keys stay as they were", "error", text)
		}
		failed = text
	}
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxKeyFile)
	}
	return b, nil
}

// parseKeys reads PEM blocks. Anything else than public keys is an error, above all
// a private one: it has no business in a pod.
func parseKeys(b []byte) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		b = rest
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("a PEM block of type %q: want PUBLIC KEY", block.Type)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		ed, ok := key.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("a %T: want an Ed25519 public key", key)
		}
		keys = append(keys, ed)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no PEM block: want Ed25519 public keys")
	}
	return keys, nil
}
