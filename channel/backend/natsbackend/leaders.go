package natsbackend

import (
	"strings"

	"github.com/nats-io/nats.go"
)

// A consumer with replicas has a leader, which knows what was asked for and what
// was sent. When its node dies, another is elected and knows neither; the member
// would wait for records until it misses the broker's sign of life (pullSilence).
// But the broker announces an election, and the member asks the new leader.

// elections is where it announces them.
const elections = "$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED.*.*"

// watchElections begins to listen. A user without the permission waits longer.
func (b *Backend) watchElections() error {
	if b.config.Server != nil {
		return nil // there is one server, and no election
	}
	_, err := b.nc.Subscribe(elections, b.elected)
	return err
}

func (b *Backend) elected(m *nats.Msg) {
	rest, name := cutLast(m.Subject)
	_, stream := cutLast(rest)
	var members []*member
	b.mu.RLock()
	for _, m := range b.members {
		if m.consumer == name && m.stream == stream {
			members = append(members, m)
		}
	}
	b.mu.RUnlock()
	for _, m := range members {
		m.mu.Lock()
		m.forget()
		if m.order != nil {
			m.order.doubt()
		}
		m.b.rejoin(m) // the new leader may have what we asked for after all
		m.ask()
		m.mu.Unlock()
	}
}

// cutLast cuts off the last token of a subject.
func cutLast(subject string) (rest, token string) {
	i := strings.LastIndexByte(subject, '.')
	return subject[:max(i, 0)], subject[i+1:]
}
