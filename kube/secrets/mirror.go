// Package secrets keeps Secrets as files, for what reads files anew whenever it
// connects: a Secret that is changed is a rotation.
//
//	Secret --get, every now and then--> Mirror --> DIR/<who>/<key> --> natsbackend, kafkabackend, S3
//
// Secrets are got by name: to watch them would be to be allowed to list them.
//
// # Goroutines
//
// None: Run is the caller's.
package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Role is the name of the Role that says which Secrets may be read.
const Role = "sidestep-secrets"

// poll is how often Secrets are looked at again.
const poll = 10 * time.Second

// Mirror keeps Secrets of one namespace as files. Its fields are not changed once it is
// used; its methods may be called from any goroutine.
type Mirror struct {
	// Reader reads from the API server.
	Reader    client.Reader
	Namespace string
	// Dir is a folder in memory, made if it is missing.
	Dir    string
	Logger *slog.Logger

	mu     sync.Mutex
	folder map[string]*folder // by who wants it
}

type folder struct {
	secret string
	keys   map[string][]byte
}

// Keep reads a Secret and keeps it as files from then on, for who: a name that is
// chosen by the caller, under which there is one Secret at a time. It returns the
// paths of the files by the Secret's keys.
func (m *Mirror) Keep(ctx context.Context, who, secret string) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := m.read(ctx, secret)
	if err != nil {
		return nil, err
	}
	if m.folder == nil {
		m.folder = make(map[string]*folder)
	}
	f := m.folder[who]
	if f == nil {
		f = new(folder)
		m.folder[who] = f
	}
	f.secret = secret
	if err := m.write(who, f, data); err != nil {
		return nil, err
	}
	files := make(map[string]string, len(data))
	for key := range data {
		files[key] = filepath.Join(m.Dir, who, key)
	}
	return files, nil
}

// Run looks for changes until ctx ends.
func (m *Mirror) Run(ctx context.Context) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.Refresh(ctx)
	}
}

// Refresh looks for changes once. A Secret that cannot be read leaves the files as they
// are: the API server may be away.
func (m *Mirror) Refresh(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, who := range slices.Sorted(maps.Keys(m.folder)) {
		f := m.folder[who]
		data, err := m.read(ctx, f.secret)
		if err == nil {
			err = m.write(who, f, data)
		}
		if err != nil && ctx.Err() == nil {
			m.Logger.Warn("a Secret cannot be looked at; going on with what it was", "secret", f.secret, "error", err)
		}
	}
}

func (m *Mirror) read(ctx context.Context, name string) (map[string][]byte, error) {
	s := new(corev1.Secret)
	err := m.Reader.Get(ctx, types.NamespacedName{Namespace: m.Namespace, Name: name}, s)
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("may not read Secret %s/%s: add it to the resourceNames of the Role %s", m.Namespace, name, Role)
	case err != nil:
		return nil, fmt.Errorf("read Secret %s/%s: %w", m.Namespace, name, err)
	}
	for key := range s.Data {
		if key != filepath.Base(key) || strings.HasPrefix(key, "..") { // the API server allows neither
			return nil, fmt.Errorf("read Secret %s/%s: key %q is no name of a file", m.Namespace, name, key)
		}
	}
	return s.Data, nil
}

// write makes the files those of data, each in one step.
func (m *Mirror) write(who string, f *folder, data map[string][]byte) error {
	dir := filepath.Join(m.Dir, who)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep Secret %s: %w", f.secret, err)
	}
	if f.keys == nil {
		f.keys = make(map[string][]byte)
	}
	var errs []error
	for key, value := range data {
		if was, known := f.keys[key]; known && bytes.Equal(was, value) {
			continue
		}
		if err := replace(filepath.Join(dir, key), value); err != nil {
			errs = append(errs, err)
			continue
		}
		f.keys[key] = bytes.Clone(value)
	}
	for key := range f.keys {
		if _, still := data[key]; still {
			continue
		}
		if err := os.Remove(filepath.Join(dir, key)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		delete(f.keys, key)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keep Secret %s: %w", f.secret, err)
	}
	return nil
}

func replace(file string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(file), "..new")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // nothing to remove once it was renamed
	_, err = temp.Write(content)
	if err = errors.Join(err, temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}
