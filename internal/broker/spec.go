package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// Spec is how a backend is reached: what is needed to open one that records are still
// on when the configuration no longer names it. It holds no secrets, only the names of
// what holds some.
type Spec struct {
	Kind  string         `json:"kind"`
	NATS  manifest.NATS  `json:"nats,omitzero"`
	Kafka manifest.Kafka `json:"kafka,omitzero"`
}

// SpecOf is the backend of a kind that a configuration describes.
func SpecOf(c *manifest.Config, kind string) Spec {
	s := Spec{Kind: kind}
	switch kind {
	case manifest.BackendKafka:
		s.Kafka = c.Kafka
	default:
		s.NATS = c.NATS // of the embedded server: how it stores
	}
	return s
}

// Specs are those of all backends that a configuration uses, by ID.
func Specs(c *manifest.Config) map[string]Spec {
	all := make(map[string]Spec)
	for _, kind := range c.Backends() {
		s := SpecOf(c, kind)
		all[s.ID()] = s
	}
	return all
}

// Homes tells where the logs of a namespace belong, by the IDs of backends. Fill it
// with HomesOf: names are not made anew for each log.
type Homes struct {
	Default    string            `json:"default"`
	Namespaces map[string]string `json:"namespaces,omitempty"`
}

// HomesOf is what a configuration says.
func HomesOf(c *manifest.Config) Homes {
	ids := make(map[string]string)
	for _, kind := range c.Backends() {
		ids[kind] = SpecOf(c, kind).ID()
	}
	h := Homes{Default: ids[c.Backend]}
	for namespace, kind := range c.Namespaces {
		if h.Namespaces == nil {
			h.Namespaces = make(map[string]string, len(c.Namespaces))
		}
		h.Namespaces[namespace] = ids[kind]
	}
	return h
}

// Of is where the logs of a namespace belong.
func (h *Homes) Of(namespace string) string {
	if id := h.Namespaces[namespace]; id != "" {
		return id
	}
	return h.Default
}

// OfLog is where a log belongs, by its name.
func (h *Homes) OfLog(log string) string {
	namespace, _, _ := strings.Cut(log, "/")
	return h.Of(namespace)
}

// IDs are those of all backends that logs belong on.
func (h *Homes) IDs() []string {
	ids := []string{h.Default}
	for _, id := range h.Namespaces {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// ID names the place that records are in: who we are there, and how they are stored,
// does not make it another one.
func (s Spec) ID() string {
	var place []string
	switch s.Kind {
	case manifest.BackendNATS:
		for url := range strings.SplitSeq(s.NATS.URL, ",") {
			place = append(place, strings.TrimSpace(url))
		}
	case manifest.BackendKafka:
		place = slices.Clone(s.Kafka.Brokers)
	default:
		return s.Kind
	}
	slices.Sort(place)
	place = append(place, s.Kafka.TopicTemplate)
	sum := sha256.Sum256([]byte(strings.Join(place, "\x00")))
	return s.Kind + "-" + hex.EncodeToString(sum[:4])
}

// Open makes a connection to a backend.
type Open func(ctx context.Context, s Spec, logger *slog.Logger) (backend.Backend, error)

// Connect is an Open for backends that are elsewhere; embedded opens the one that is
// not. instance is who we are at the backend with an ID, also when we are started
// again; "": nobody in particular.
func Connect(embedded Open, instance func(id string) string) Open {
	return func(ctx context.Context, s Spec, logger *slog.Logger) (backend.Backend, error) {
		switch s.Kind {
		case manifest.BackendKafka:
			return Kafka(ctx, &s.Kafka, instance(s.ID()), logger)
		case manifest.BackendNATS:
			return NATS(ctx, &s.NATS, logger)
		default:
			return embedded(ctx, s, logger)
		}
	}
}
