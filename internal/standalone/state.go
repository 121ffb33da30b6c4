package standalone

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/internal/broker"
)

// stateFile holds what must outlive the process beside the logs themselves.
const stateFile = "state.json"

// stateVersion is the format of the file. A file of a newer version is refused:
// guessing at it could delete what it speaks of.
const stateVersion = 1

// state is what a restart must know. In a cluster these facts are in API
// objects; here they are in one file under --data.
type state struct {
	Version int `json:"version"`
	// Key signs internal headers on the log.
	Key []byte `json:"key"`
	// UIDs of objects, by "kind/namespace/name". They name groups in the
	// logs: an object that keeps its name keeps its position.
	UIDs map[string]string `json:"uids"`
	// Table is the last one that was applied, with what is draining.
	Table channel.Table `json:"table"`
	// Deadlines until when removed channels ("namespace/name") and
	// subscriptions (by UID) are drained.
	Deadlines map[string]time.Time `json:"deadlines"`
	// ClaimStores are the URLs of the stores that payloads may be in, the one
	// that is written to first.
	ClaimStores []string `json:"claimStores,omitempty"`
	// Places of the channels' logs, by "namespace/name", and how the backends that
	// these name are reached.
	Places  map[string]swapbackend.Place `json:"places,omitempty"`
	Brokers map[string]broker.Spec       `json:"brokers,omitempty"`

	path string
	// shared is the key in Config.Key, if any, which takes the place of Key.
	shared []byte
}

// openState reads the state under dir, or begins a new one.
func openState(dir string) (*state, error) {
	s := &state{
		Version:   stateVersion,
		UIDs:      map[string]string{},
		Deadlines: map[string]time.Time{},
		path:      filepath.Join(dir, stateFile),
	}
	b, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.Key = make([]byte, 32)
		rand.Read(s.Key)
		return s, s.save()
	case err != nil:
		return nil, fmt.Errorf("read state: %w", err)
	}
	// The version first: all else may look different in another.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("read state %s: %w", s.path, err)
	}
	if v.Version != stateVersion {
		return nil, fmt.Errorf("read state %s: version %d, this program knows %d", s.path, v.Version, stateVersion)
	}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read state %s: %w", s.path, err)
	}
	return s, nil
}

// save replaces the file in one step: a crash leaves the old one or the new.
func (s *state) save() error {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), stateFile+".*")
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	defer os.Remove(f.Name()) // nothing to remove once it was renamed
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// uid returns the UID of an object, a new one if it has none yet. Those who share a key
// make the same.
func (s *state) uid(kind, namespace, name string) string {
	key := kind + "/" + namespace + "/" + name
	switch {
	case s.UIDs[key] != "":
	case s.shared != nil:
		s.UIDs[key] = uuid.NewHash(sha256.New(), uuid.Nil, append(append([]byte("uid\x00"), s.shared...), key...), 8).String()
	default:
		s.UIDs[key] = uuid.NewString()
	}
	return s.UIDs[key]
}

// key signs internal headers, and payloads.
func (s *state) key() []byte {
	if s.shared != nil {
		return s.shared
	}
	return s.Key
}

// forget the object that has the UID: one of its name made later is another.
func (s *state) forget(uid string) {
	for key, u := range s.UIDs {
		if u == uid {
			delete(s.UIDs, key)
		}
	}
}
