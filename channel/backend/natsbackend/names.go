package natsbackend

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// names says what our things are called at the broker. They share one prefix,
// so that several installations fit on one broker.
type names struct{ prefix string }

// catalogStream is the stream that is the authority on logs.
func (n names) catalogStream() string { return n.prefix + "-catalog" }

// catalogStreamSubjects is all that the catalog holds.
func (n names) catalogStreamSubjects() string { return n.prefix + ".catalog.>" }

// logEntry is where a log's entry is kept: a subject per log, so that each has
// a revision of its own. Names are hashed since they may hold any bytes; the
// entry has the name in full.
func (n names) logEntry(log string) string {
	sum := sha256.Sum256([]byte(log))
	return n.prefix + ".catalog.log." + token(sum[:20])
}

// lease is where the claim on what is kept.
func (n names) lease(what string) string { return n.prefix + ".catalog.lease." + what }

// shardStream is the stream that holds the records of a shard's logs.
func (n names) shardStream(shard int) string { return fmt.Sprintf("%s-%02x", n.prefix, shard) }

// shardNote is where it is kept that a shard's stream was made.
func (n names) shardNote(shard int) string {
	return fmt.Sprintf("%s.catalog.shard.%02x", n.prefix, shard)
}

// anchorSubject is for a shard's anchor. It also keeps the list of subjects from
// being empty, which would mean the stream's name to the server.
func (n names) anchorSubject(shard int) string { return fmt.Sprintf("%s.anchor.%02x", n.prefix, shard) }

// logSubject is where the records of one life of a log go. The name of the log
// is no part of it: another life has another subject.
func (n names) logSubject(i backend.Incarnation) string { return n.prefix + ".log." + string(i) }

// consumer is the name of a group's consumer. It is part of every ack, and so
// kept short: 100 bits of hash.
func consumer(i backend.Incarnation, group string) string {
	sum := sha256.Sum256([]byte(string(i) + "/" + group))
	return token(sum[:13])[:20]
}

// shardOf spreads logs evenly, whatever their names have in common.
func shardOf(log string) int {
	sum := sha256.Sum256([]byte("shard/" + log))
	return int(binary.LittleEndian.Uint32(sum[:]) % shardCount)
}

// shardCount is fixed: a log's shard follows from its name.
// docs/design/jetstream-mapping.md has the measurements.
const shardCount = 64

func token(b []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
}

// newIncarnation is 100 random bits.
func newIncarnation() backend.Incarnation { return backend.Incarnation(rand.Text()[:20]) }
