package broker

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// StateName is the ConfigMap in which the controller, and nobody else, says what of
// config-sidestep is in effect. It is there so that all processes go by the same, also
// one that starts when config-sidestep cannot be used, or names what cannot be reached.
// Where each channel's log is, is in the channel's status.
const StateName = "sidestep-state"

// stateKey is the one key of it; stateVersion the format.
const (
	stateKey     = "state"
	stateVersion = 1
)

// State is what is in effect.
type State struct {
	Version int `json:"version"`
	// Config is the last of config-sidestep whose backends, and payload store, could be
	// opened.
	Config manifest.Config `json:"config"`
	// Homes says where the logs of new channels are made, and where others move to.
	Homes broker.Homes `json:"homes"`
	// Backends by their IDs: those of Config, and those that logs are still on.
	Backends map[string]broker.Spec `json:"backends"`
	// ClaimStores are the URLs of the stores that payloads may be in, the one that is
	// written to first; ClaimSecrets the Secrets of those that have one.
	ClaimStores  []string          `json:"claimStores"`
	ClaimSecrets map[string]string `json:"claimSecrets,omitempty"`
}

// Empty: nothing was in effect yet.
func (s *State) Empty() bool { return s.Version == 0 }

// Clone copies s and its maps.
func (s *State) Clone() *State {
	c := *s
	c.Backends, c.ClaimStores, c.ClaimSecrets = maps.Clone(s.Backends), slices.Clone(s.ClaimStores), maps.Clone(s.ClaimSecrets)
	return &c
}

// KindOf is the kind of the backend with an ID, "" if it is not known.
func (s *State) KindOf(id string) string { return s.Backends[id].Kind }

// ReadState reads what a ConfigMap says; none, or one that was not filled yet, is empty.
func ReadState(cm *corev1.ConfigMap) (*State, error) {
	s := new(State)
	if cm == nil || cm.Data[stateKey] == "" {
		return s, nil
	}
	text := []byte(cm.Data[stateKey])
	// The version first: all else may look different in another.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", StateName, err)
	}
	if v.Version != stateVersion {
		return nil, fmt.Errorf("read ConfigMap %s: version %d, this program knows %d", StateName, v.Version, stateVersion)
	}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", StateName, err)
	}
	return s, nil
}

// Write puts s into a ConfigMap, and tells whether that changed it.
func (s *State) Write(cm *corev1.ConfigMap) (changed bool, err error) {
	s.Version = stateVersion
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return false, fmt.Errorf("write ConfigMap %s: %w", StateName, err)
	}
	if cm.Data[stateKey] == string(b) {
		return false, nil
	}
	cm.Data = map[string]string{stateKey: string(b)}
	return true, nil
}
