package manifest

import (
	"fmt"
	"slices"

	"github.com/sidestep-dev/sidestep/sequence"
)

// Set is what a Load found: all of it valid, every reference resolved. It does
// not change.
type Set struct {
	// Config is the ConfigMap config-sidestep, or the defaults.
	Config Config
	// Files are those that were read, in that order.
	Files []string

	sequences     []*sequence.Sequence
	parallels     []*sequence.Parallel
	channels      []*sequence.Channel
	subscriptions []*sequence.Subscription
	services      map[objectKey]service
	pods          []LocalPod
}

// service is where a Service is reached; broken: that was reported.
type service struct {
	address string
	broken  bool
	// reference: it wants large payloads by reference.
	reference bool
	// apart: its steps are never called through a sidecar.
	apart bool
}

func newSet() *Set {
	return &Set{Config: defaultConfig(), services: make(map[objectKey]service)}
}

// expand is every channel and Subscription, declared or made.
func (s *Set) expand() ([]sequence.Channel, []sequence.Subscription) {
	var channels []sequence.Channel
	var subs []sequence.Subscription
	for _, c := range s.channels {
		channels = append(channels, *c)
	}
	for _, sub := range s.subscriptions {
		subs = append(subs, *sub)
	}
	for _, q := range s.sequences {
		cs, ss := q.Expand()
		channels, subs = append(channels, cs...), append(subs, ss...)
	}
	for _, p := range s.parallels {
		cs, ss := p.Expand()
		channels, subs = append(channels, cs...), append(subs, ss...)
	}
	return channels, subs
}

// checkClashes reports objects that would be, or make, the same channel or
// Subscription.
func (l *loading) checkClashes() {
	owners := make(map[objectKey]objectKey)
	claim := func(owner objectKey, channels []sequence.Channel, subs []sequence.Subscription) {
		if _, named := l.declared[owner]; !named {
			return
		}
		keys := make([]objectKey, 0, len(channels)+len(subs))
		for i := range channels {
			keys = append(keys, objectKey{"channel", channels[i].Namespace, channels[i].Name})
		}
		for i := range subs {
			keys = append(keys, objectKey{sequence.SubscriptionKind, subs[i].Namespace, subs[i].Name})
		}
		i := slices.IndexFunc(keys, func(k objectKey) bool { _, taken := owners[k]; return taken })
		if at := l.declared[owner]; i >= 0 && owners[keys[i]] != owner {
			first := l.declared[owners[keys[i]]]
			at.problem("%s is already there: by the %s at %s:%d", keys[i], owners[keys[i]].kind, first.doc.file, first.line)
			return
		}
		for _, k := range keys {
			owners[k] = owner
		}
	}
	for _, c := range l.set.channels {
		claim(objectKey{c.Kind, c.Namespace, c.Name}, []sequence.Channel{*c}, nil)
	}
	for _, s := range l.set.subscriptions {
		claim(objectKey{sequence.SubscriptionKind, s.Namespace, s.Name}, nil, []sequence.Subscription{*s})
	}
	for _, q := range l.set.sequences {
		cs, ss := q.Expand()
		claim(objectKey{sequence.SequenceKind, q.Namespace, q.Name}, cs, ss)
	}
	for _, p := range l.set.parallels {
		cs, ss := p.Expand()
		claim(objectKey{sequence.ParallelKind, p.Namespace, p.Name}, cs, ss)
	}
}

// String counts what is in the set, for a log.
func (s *Set) String() string {
	return fmt.Sprintf("%d sequences, %d parallels, %d channels, %d subscriptions, %d services",
		len(s.sequences), len(s.parallels), len(s.channels), len(s.subscriptions), len(s.services))
}
