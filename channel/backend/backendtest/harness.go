package backendtest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// Harness is one broker, empty at the start, with ways to connect to it and to
// hurt it.
//
// How to implement it: write a func(testing.TB) Harness that starts a broker on
// a data directory of its own (t.TempDir), registers the broker's end with
// t.Cleanup, and returns a Harness whose functions close over it. Only Connect
// is required. A capability that is nil is one the broker does not have here:
// the properties that need it are skipped, and say so. All functions may be
// called from several tests at once, except Restart, which has the broker for
// itself.
//
//	func newHarness(t testing.TB) backendtest.Harness {
//		s := startBroker(t, t.TempDir()) // and t.Cleanup(s.stop)
//		return backendtest.Harness{
//			Connect: func(t testing.TB) backend.Backend { return open(t, s.address()) },
//			Restart: func(t testing.TB) { s.kill9(t); s.start(t) },
//			Facts:   backendtest.Facts{AckWait: 2 * time.Second, Dedup: true},
//		}
//	}
//
// For Kill and Cut, give each connection a dialer (or a small proxy) of its own
// that can be told to fail, and find it by the backend (a sync.Map will do).
type Harness struct {
	// Connect opens a new connection to the broker: another process's view
	// of it. The suite closes it before the test ends. It must not share
	// with other connections anything that Kill or Cut would break.
	Connect func(t testing.TB) backend.Backend

	// Kill does to b what SIGKILL does to the process that holds it: from
	// the moment it returns the broker hears nothing more from b, neither
	// acks nor heartbeats nor a farewell, for ever. The suite calls nothing
	// of b or its subscriptions afterwards except Close, whose result it
	// ignores; Close must still free b's goroutines, in bounded time.
	Kill func(t testing.TB, b backend.Backend)

	// Cut breaks b's connection, and keeps it from being made again, until
	// Mend. b is not told. The suite mends what it cuts. Both or neither.
	Cut, Mend func(t testing.TB, b backend.Backend)

	// Restart kills the broker as hard as it can (SIGKILL, if it is a
	// process) and starts it again on the same data and the same address.
	// It returns when the broker takes connections again. Connections made
	// before are expected to mend themselves.
	Restart func(t testing.TB)

	Facts Facts
}

// Facts are what the suite needs to know about a broker. The zero value
// describes one that is instant and has no memory for Dedup.
type Facts struct {
	// AckWait is how long a broker waits before it hands what a dead or cut
	// member holds to another: JetStream's ack wait, Kafka's session
	// timeout. Choose it as short as a heartbeat can be relied on for when
	// the machine is busy: 1 to 2 s. Slow handlers hold a record for three
	// times as long.
	AckWait time.Duration

	// AckFlush is for how long an ack that the broker has taken may be lost
	// if the broker is killed (promise P3). Negative: for ever.
	AckFlush time.Duration

	// Dedup: a second record with the same Dedup is dropped.
	Dedup bool

	// Patience is how long the suite waits for what must happen. 0: 30 s.
	Patience time.Duration

	// Leaks are goroutines that may stay when all is closed, such as those
	// of a library that never ends them.
	Leaks []goleak.Option
}

func (f Facts) patience() time.Duration {
	if f.Patience > 0 {
		return f.Patience
	}
	return 30 * time.Second
}
