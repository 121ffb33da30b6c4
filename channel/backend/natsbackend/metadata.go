package natsbackend

import (
	"strconv"
	"strings"
	"time"
)

// metadata of a delivery, from its reply subject.
type metadata struct {
	sequence  uint64 // of the record, in its stream
	delivery  uint64 // of this delivery, by its consumer, from 1
	delivered uint64 // how often the record was, this time included
	stored    time.Time
}

// parseReply reads the subject that an ack goes to (NATS ADR-15), in the form
//
//	$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
//
// or the longer one with a domain and an account before the stream.
func parseReply(s string) (m metadata, ok bool) {
	rest, found := strings.CutPrefix(s, "$JS.ACK.")
	if !found {
		return m, false
	}
	skip := 2 // stream, consumer
	if strings.Count(rest, ".") >= 8 {
		skip = 4
	}
	for range skip {
		if _, rest, found = strings.Cut(rest, "."); !found {
			return m, false
		}
	}
	var nanos uint64
	for _, field := range []*uint64{&m.delivered, &m.sequence, &m.delivery, &nanos} {
		var text string
		if text, rest, found = strings.Cut(rest, "."); !found {
			return m, false
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return m, false
		}
		*field = n
	}
	m.stored = time.Unix(0, int64(nanos))
	return m, true
}
