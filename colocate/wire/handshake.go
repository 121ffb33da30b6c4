package wire

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Handshake is what a sidecar tells of itself, as JSON.
type Handshake struct {
	// Pod is what slips must be bound to. Where a sidecar was not told its pod's
	// UID it is new with each process.
	Pod string `json:"pod"`
	// Namespace is the pod's; "": the sidecar does not know, and takes any.
	Namespace string `json:"namespace,omitempty"`
	// Versions of the protocol, from MinVersion to Version.
	MinVersion int `json:"minVersion"`
	Version    int `json:"version"`
	// Ports that it may call.
	Ports []uint16 `json:"ports"`
	// Claims: it has a folder for payloads that do not fit into memory, and
	// steps may take and give them by reference.
	Claims bool `json:"claims"`
	// Inline is the most bytes of an event's data that it keeps in memory.
	// Without Claims larger ones should not be sent to it.
	Inline int `json:"inline"`
	// MaxEventBytes is the most bytes of data that it takes.
	MaxEventBytes int64 `json:"maxEventBytes"`
}

// ErrHandshake is wrapped by the errors of ParseHandshake.
var ErrHandshake = errors.New("handshake failed")

// ParseHandshake reads the body of a handshake's 200, at most MaxHandshakeBytes of
// it. An error, ErrVersion among them, means that the sidecar cannot be used.
func ParseHandshake(body []byte) (*Handshake, error) {
	if len(body) > MaxHandshakeBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrHandshake, MaxHandshakeBytes)
	}
	h := new(Handshake)
	if err := json.Unmarshal(body, h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	switch {
	case !printable(h.Pod, 1, maxName):
		return nil, fmt.Errorf("%w: pod %.32q", ErrHandshake, h.Pod)
	case h.MinVersion > Version || h.Version < MinVersion:
		return nil, fmt.Errorf("%w: %w: it speaks %d to %d, this is %d to %d",
			ErrHandshake, ErrVersion, h.MinVersion, h.Version, MinVersion, Version)
	}
	return h, nil
}

// Allows tells whether the sidecar may call a port.
func (h *Handshake) Allows(port uint16) bool {
	for _, p := range h.Ports {
		if p == port {
			return true
		}
	}
	return false
}
