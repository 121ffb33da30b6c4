package channel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
	"github.com/sidestep-dev/sidestep/claimcheck/faultstore"
)

// Of the worlds with payloads.
const (
	threshold  = 1 << 10
	payloadTTL = 24 * time.Hour
	linkTTL    = time.Hour
	linkBase   = "http://dispatcher"
	// discarded is when what can be deleted early has been.
	discarded = 35 * time.Second
)

// depot is a store in memory, and what keeps payloads in it.
type depot struct {
	t      testing.TB
	vault  *faultstore.Store
	room   *claimcheck.Checkroom
	claims *channel.Claims
}

func newDepot(t testing.TB, edit ...func(*channel.ClaimsConfig)) *depot {
	t.Helper()
	return newKeepingDepot(t, 0, edit...)
}

// newKeepingDepot keeps so many bytes of payloads in memory as well.
func newKeepingDepot(t testing.TB, keep int, edit ...func(*channel.ClaimsConfig)) *depot {
	t.Helper()
	d := &depot{t: t, vault: faultstore.New(blobstore.Memory())}
	keys, err := claimcheck.NewKeys(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	d.room, err = claimcheck.New(claimcheck.Config{
		Stores: map[string]claimcheck.Store{"main": d.vault}, Current: "main", Keys: keys, TTL: payloadTTL, Keep: keep,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := channel.ClaimsConfig{Room: d.room, Threshold: threshold, LinkBase: linkBase, LinkTTL: linkTTL}
	for _, e := range edit {
		e(&c)
	}
	if d.claims, err = channel.NewClaims(c); err != nil {
		t.Fatal(err)
	}
	return d
}

// payload stores data for a channel.
func (d *depot) payload(owner string, data []byte) event.Payload {
	d.t.Helper()
	p, err := d.claims.Store(context.Background(), event.Incoming{Owner: owner, ContentType: "image/png", Head: data, Length: int64(len(data))})
	if err != nil {
		d.t.Fatal(err)
	}
	return p
}

// objects are the names of the payloads in the store.
func (d *depot) objects() []string {
	d.t.Helper()
	names, err := d.vault.Payloads(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	return names
}

func (d *depot) wantObjects(n int, when string) {
	d.t.Helper()
	if got := d.objects(); len(got) != n {
		d.t.Errorf("%s: %d payloads in the store, want %d", when, len(got), n)
	}
}

// payloadWorld is a world whose events may have large payloads.
type payloadWorld struct {
	*world
	*depot
	serial sync.Mutex
}

func newPayloadWorld(t *testing.T, edit ...func(*channel.Config)) *payloadWorld {
	d := newDepot(t)
	w := &payloadWorld{depot: d}
	w.world = newWorld(t, append([]func(*channel.Config){func(c *channel.Config) { c.Claims = d.claims }}, edit...)...)
	return w
}

// large is an event with a payload, for channel ns/c0.
func (w *payloadWorld) large(id string, data []byte) *event.Event {
	w.world.t.Helper()
	e := ev(id)
	e.DataContentType = "image/png"
	e.Data, e.Payload = nil, w.payload("ns/c0", data)
	return e
}

// oldest is claimcheck.Oldest, of the groups of the channels.
func (w *payloadWorld) oldest(channels ...*channel.Channel) claimcheck.Oldest {
	return func(ctx context.Context, namespace string) (oldest time.Time, _ error) {
		for _, c := range channels {
			for _, s := range c.Subscriptions {
				lag, err := w.backend.Lag(ctx, c.Log().Name, s.UID)
				if err != nil {
					return oldest, err
				}
				if c.Namespace == namespace && !lag.Oldest.IsZero() && (oldest.IsZero() || lag.Oldest.Before(oldest)) {
					oldest = lag.Oldest
				}
			}
		}
		return oldest, nil
	}
}

// step is called once at a time: what it keeps needs no lock.
func (w *payloadWorld) step(url string, f func(*egress.Request) egress.Result) {
	w.world.step(url, func(r *egress.Request) egress.Result {
		w.serial.Lock()
		defer w.serial.Unlock()
		return f(r)
	})
}

// sleep lets time pass, within a bubble, and what happens in it come to rest.
func (w *payloadWorld) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *payloadWorld) sweep(channels ...*channel.Channel) {
	w.world.t.Helper()
	if _, err := w.room.Sweep(context.Background(), w.oldest(channels...)); err != nil {
		w.world.t.Fatal(err)
	}
}

// dataOf reads an event's data, wherever it is.
func dataOf(e *event.Event) ([]byte, error) {
	if e.Payload == nil {
		return e.Data, nil
	}
	r, err := e.Payload.Open(context.Background())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// reading is a step that gets all of the data before it does what then does, as a
// receiver over HTTP would.
func reading(then func(r *egress.Request, data []byte) egress.Result) func(*egress.Request) egress.Result {
	return func(r *egress.Request) egress.Result {
		data, err := dataOf(r.Event)
		if err != nil {
			return egress.Result{Err: fmt.Errorf("%w: %w", egress.ErrPayload, err)}
		}
		return then(r, data)
	}
}

// keeping is a last step that keeps what it got.
func keeping(got *[][]byte) func(*egress.Request) egress.Result {
	return reading(func(_ *egress.Request, data []byte) egress.Result {
		*got = append(*got, data)
		return egress.Result{Status: 202}
	})
}

func wantData(t testing.TB, got [][]byte, want ...[]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d deliveries, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("delivery %d has %d bytes, or others than the %d that were sent", i, len(got[i]), len(want[i]))
		}
	}
}

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// A golden test: what the steps and the sinks see is the same, whether the data
// travels in the record or in the store, and whether hops skip the log or not.
func TestAttemptsAndDeadLettersAreTheSameForSmallAndLargePayloads(t *testing.T) {
	failures := map[string]func(*egress.Request) egress.Result{
		"400 is final":         status(400, "bad"),
		"503 is retried":       status(503, strings.Repeat("x", 2000)),
		"no answer is retried": func(*egress.Request) egress.Result { return egress.Result{Err: errors.New("nobody")} },
		"bad reply is final":   func(*egress.Request) egress.Result { return egress.Result{Status: 200, Err: egress.ErrReply} },
	}
	data := randomBytes(1, 4*threshold)
	for name, failing := range failures {
		for _, k := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("%s at step %d", name, k), func(t *testing.T) {
				want := ""
				for _, large := range []bool{false, true} {
					for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always} {
						got := payloadTranscript(t, mode, k, failing, data, large)
						if want == "" {
							want = got
						}
						if got != want {
							t.Errorf("small, Never:\n%s\nlarge %v, %v:\n%s", want, large, mode, got)
						}
					}
				}
				if !strings.Contains(want, "http://dls") {
					t.Errorf("no dead letter:\n%s", want)
				}
			})
		}
	}
}

func payloadTranscript(
	t *testing.T, mode channel.ShortCircuit, k int, failing func(*egress.Request) egress.Result, data []byte, large bool,
) string {
	t.Helper()
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		defer w.stop()
		for i := range 3 {
			w.step(fmt.Sprintf("http://s%d", i), reading(func(r *egress.Request, _ []byte) egress.Result { return passOn(i)(r) }))
		}
		w.step(fmt.Sprintf("http://s%d", k), reading(func(r *egress.Request, _ []byte) egress.Result { return failing(r) }))
		w.step("http://dls", accept)
		w.apply(sequence(3, mode, func(i int, s *channel.Subscription) {
			s.Policy = egress.Policy{Retry: 2 + i, Delay: time.Second, Backoff: egress.Linear}
			s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://dls"}}
		})...)
		e := ev("1")
		e.DataContentType, e.Data = "image/png", data
		if large {
			e = w.large("1", data)
		}
		w.publish("c0", e)
		w.sleep(5 * time.Minute)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range w.calls {
			d, err := dataOf(c.event)
			fmt.Fprintf(&out, "%s %s %s %s %v %v %v\n", c.url, c.event.ID, c.event.Source, c.event.Type, c.event.Attributes, bytes.Equal(d, data), err)
		}
	})
	return out.String()
}

func TestPayloadGoesThroughEveryStepAndIsDeletedWhenNobodyCanNeedIt(t *testing.T) {
	for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always} {
		bubble(t, fmt.Sprint(mode), func(t *testing.T) {
			w := newPayloadWorld(t)
			defer w.stop()
			var got [][]byte
			for i := range 3 {
				w.step(fmt.Sprintf("http://s%d", i), passOn(i))
			}
			w.step("http://s3", keeping(&got))
			w.apply(sequence(4, mode, nil)...)
			data := randomBytes(1, 100*threshold)
			w.publish("c0", w.large("1", data))
			synctest.Wait()
			wantData(t, got, data)
			w.wantObjects(1, "right after it was settled, when it may come back")
			w.sleep(discarded)
			w.wantObjects(0, "later")
			if n := w.vault.Calls(faultstore.Put); n != 1 {
				t.Errorf("%d objects were put, want 1", n)
			}
		})
	}
}

func TestEarlyDeletionSparesWhatSomebodyMayNeed(t *testing.T) {
	second := &channel.Subscription{
		UID: "second", Namespace: "ns", Name: "second", Subscriber: &egress.Target{URL: "http://second"},
		Policy: egress.Policy{Retry: 1000, Delay: 10 * time.Second, Backoff: egress.Linear},
	}
	tests := []struct {
		name string
		edit func([]*channel.Channel)
		step func(*egress.Request) egress.Result
		kept int
	}{
		{"completed", func([]*channel.Channel) {}, accept, 0},
		{"dropped, as there is no sink", func([]*channel.Channel) {}, status(400, ""), 0},
		{"dead-lettered", func(c []*channel.Channel) {
			c[0].Subscriptions[0].DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://sink"}}
		}, status(400, ""), 1},
		{"another group has it", func(c []*channel.Channel) {
			c[0].Subscriptions = append(c[0].Subscriptions, second)
		}, accept, 1},
		{"another group may have it", func(c []*channel.Channel) { c[0].Shared = true }, accept, 1},
		{"by reference", func(c []*channel.Channel) { c[0].Subscriptions[0].Subscriber.Reference = true }, accept, 1},
	}
	for _, tt := range tests {
		bubble(t, tt.name, func(t *testing.T) {
			w := newPayloadWorld(t)
			defer w.stop()
			w.step("http://s0", tt.step)
			w.step("http://second", status(503, ""))
			w.step("http://sink", accept)
			c := sequence(1, channel.Never, nil)
			tt.edit(c)
			w.apply(c...)
			w.publish("c0", w.large("1", randomBytes(1, 10*threshold)))
			w.sleep(discarded)
			w.wantObjects(tt.kept, "when it was settled")
		})
	}
}

// Whoever was given a link may use it for as long as it is valid.
func TestPayloadHandedOverByReferenceIsSweptAfterItsLinkAndNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		defer w.stop()
		w.step("http://s0", accept)
		c := sequence(1, channel.Never, func(_ int, s *channel.Subscription) { s.Subscriber.Reference = true })
		w.apply(c...)
		// Its last hour has begun when it is handed over.
		e := w.large("1", randomBytes(1, 10*threshold))
		w.sleep(payloadTTL - time.Minute)
		w.publish("c0", e)
		w.sleep(discarded)
		w.sweep(c...)
		w.wantObjects(1, "while the link is valid")
		w.sleep(2 * payloadTTL)
		w.sweep(c...)
		w.wantObjects(0, "when all is over")
	})
}

// A record that waits for days is renewed when it moves on, and kept until then.
func TestPayloadOutlivesItsTimeWhileARecordRefersToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		defer w.stop()
		var got [][]byte
		w.step("http://s0", status(503, ""))
		w.step("http://s1", status(503, ""))
		c := sequence(2, channel.Never, func(_ int, s *channel.Subscription) {
			s.Policy = egress.Policy{Retry: 1 << 20, Delay: time.Hour, Backoff: egress.Linear}
		})
		w.apply(c...)
		data := randomBytes(1, 10*threshold)
		w.publish("c0", w.large("1", data))
		for range 5 {
			w.sleep(payloadTTL)
			w.sweep(c...)
			w.wantObjects(1, "while its record is stuck")
		}
		w.step("http://s0", passOn(0)) // it moves on to the second channel
		w.sleep(10 * payloadTTL)
		w.sweep(c...)
		w.wantObjects(1, "while its record is stuck in the next channel")
		w.step("http://s1", keeping(&got))
		w.sleep(20 * payloadTTL)
		wantData(t, got, data)
		w.sweep(c...)
		w.wantObjects(0, "when it was settled")
	})
}

// What a crash between put and publish leaves.
func TestPayloadThatNoRecordRefersToIsSweptAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		defer w.stop()
		c := sequence(1, channel.Never, nil)
		w.apply(c...)
		w.payload("ns/c0", randomBytes(1, 10*threshold))
		w.sleep(payloadTTL)
		w.sweep(c...)
		w.wantObjects(1, "before its time is over for every clock")
		w.sleep(time.Hour)
		w.sweep(c...)
		w.wantObjects(0, "after its time")
	})
}

func TestStoreThatIsDownHoldsUpLargeEventsAndLosesNone(t *testing.T) {
	for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always} {
		for _, op := range []faultstore.Op{faultstore.Open, faultstore.Read} {
			bubble(t, fmt.Sprint(mode, " ", op), func(t *testing.T) {
				w := newPayloadWorld(t)
				defer w.stop()
				var got [][]byte
				small := 0
				w.step("http://s0", reading(func(r *egress.Request, _ []byte) egress.Result { return passOn(0)(r) }))
				w.step("http://sink", accept)
				w.step("http://s1", reading(func(_ *egress.Request, data []byte) egress.Result {
					if len(data) < threshold {
						small++
					} else {
						got = append(got, data)
					}
					return egress.Result{Status: 202}
				}))
				w.apply(sequence(2, mode, func(_ int, s *channel.Subscription) {
					s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://sink"}}
				})...)
				data := randomBytes(1, 100*threshold)
				e := w.large("1", data)
				w.vault.SetPlan(func(o faultstore.Op, _ string) error {
					if o == op {
						return claimcheck.ErrUnavailable
					}
					return nil
				})
				w.publish("c0", e)
				for i := range 10 {
					w.sleep(time.Minute)
					w.publish("c0", ev(fmt.Sprint("small ", i)))
				}
				synctest.Wait()
				if len(got) != 0 || small != 10 {
					t.Errorf("%d large and %d small events were delivered while the store was down, want 0 and 10", len(got), small)
				}
				if n := w.lag("c0", "u0"); n != 1 {
					t.Errorf("%d records wait, want 1", n)
				}
				w.vault.SetPlan(nil)
				w.sleep(time.Minute)
				wantData(t, got, data)
				if n := len(w.called("http://sink")); n != 0 {
					t.Errorf("%d dead letters: a store that is down is nobody's fault", n)
				}
			})
		}
	}
}

// The store fails in the middle of the chain, and in the middle of a stream.
func TestStreamThatBreaksOffIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		defer w.stop()
		var got [][]byte
		w.step("http://s0", keeping(&got))
		w.apply(sequence(1, channel.Never, nil)...)
		data := randomBytes(1, 200*threshold)
		e := w.large("1", data)
		reads := 0
		w.vault.SetPlan(func(op faultstore.Op, _ string) error {
			if op == faultstore.Read {
				if reads++; reads%3 == 2 && reads < 12 {
					return claimcheck.ErrUnavailable
				}
			}
			return nil
		})
		w.publish("c0", e)
		w.sleep(10 * time.Minute)
		wantData(t, got, data)
	})
}

func TestPayloadThatIsLostIsADeadLetterThatSaysSo(t *testing.T) {
	data := randomBytes(1, 100*threshold)
	for name, lose := range map[string]func(*payloadWorld, string) error{
		"deleted behind our back": func(w *payloadWorld, name string) error {
			return w.vault.Delete(context.Background(), name)
		},
		"corrupted": func(w *payloadWorld, name string) error {
			return w.vault.Overwrite(context.Background(), name, func(b []byte) []byte { b[7] ^= 1; return b })
		},
		"shortened": func(w *payloadWorld, name string) error {
			return w.vault.Overwrite(context.Background(), name, func(b []byte) []byte { return b[:len(b)/2] })
		},
	} {
		for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always} {
			for _, at := range []int{0, 1} {
				for _, toChannel := range []bool{false, true} {
					bubble(t, fmt.Sprint(name, " ", mode, " before step ", at, ", sink is a channel ", toChannel), func(t *testing.T) {
						w := newPayloadWorld(t)
						defer w.stop()
						var got [][]byte
						e := w.large("1", data)
						object := w.objects()[0]
						for i := range 2 {
							w.step(fmt.Sprintf("http://s%d", i), reading(func(r *egress.Request, data []byte) egress.Result {
								if i == at {
									got = append(got, data)
								}
								if i+1 == at {
									if err := lose(w, object); err != nil {
										t.Error(err)
									}
								}
								return passOn(i)(r)
							}))
						}
						sink := &channel.Destination{Target: egress.Target{URL: "http://sink"}}
						channels := sequence(2, mode, func(_ int, s *channel.Subscription) {
							s.Policy = egress.Policy{Retry: 2, Delay: time.Second, Backoff: egress.Linear}
							s.DeadLetter = sink
						})
						if toChannel {
							*sink = channel.Destination{Channel: "ns/dead"}
							channels = append(channels, &channel.Channel{Namespace: "ns", Name: "dead", Subscriptions: []*channel.Subscription{{
								UID: "dead", Namespace: "ns", Name: "dead", Subscriber: &egress.Target{URL: "http://sink"},
							}}})
						}
						w.step("http://sink", reading(func(*egress.Request, []byte) egress.Result { return egress.Result{Status: 202} }))
						w.apply(channels...)
						if at == 0 {
							if err := lose(w, object); err != nil {
								t.Fatal(err)
							}
						}
						w.publish("c0", e)
						w.sleep(10 * time.Minute)
						if len(got) != 0 {
							t.Errorf("%d bytes were delivered as if they were whole", len(got[0]))
						}
						letters := w.called("http://sink")
						if len(letters) == 0 {
							t.Fatal("there is no dead letter")
						}
						last := letters[len(letters)-1].event
						if last.ID != "1" || last.Size() != 0 || last.Get("knativeerrorcode") != "500" || last.Get("knativeerrordata") == "" {
							t.Errorf("the dead letter is %+v", last)
						}
						for i := range 2 {
							if n := w.lag(fmt.Sprintf("c%d", i), fmt.Sprintf("u%d", i)); n != 0 {
								t.Errorf("channel %d: %d records left", i, n)
							}
						}
					})
				}
			}
		}
	}
}

func TestReferenceIsALinkWithoutDataAndAnUnchangedAnswerIsNotStoredAgain(t *testing.T) {
	for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always} {
		bubble(t, fmt.Sprint(mode), func(t *testing.T) {
			w := newPayloadWorld(t)
			defer w.stop()
			var got [][]byte
			var links []string
			for i := range 2 {
				w.step(fmt.Sprintf("http://s%d", i), func(r *egress.Request) egress.Result {
					link := r.Event.Get("dataref")
					links = append(links, link)
					if r.Event.Size() != 0 || len(r.Extra) != 1 || r.Extra[0].Name != "sidestep-claim" {
						t.Errorf("by reference came %d bytes and the headers %v", r.Event.Size(), r.Extra)
					}
					return passOn(i)(r)
				})
			}
			w.step("http://s2", reading(func(r *egress.Request, data []byte) egress.Result {
				got = append(got, data)
				if ref := r.Event.Get("dataref"); ref != "" || len(r.Extra) != 0 {
					t.Errorf("by value came the dataref %q and the headers %v", ref, r.Extra)
				}
				return egress.Result{Status: 202}
			}))
			w.apply(sequence(3, mode, func(i int, s *channel.Subscription) { s.Subscriber.Reference = i < 2 })...)
			data := randomBytes(1, 100*threshold)
			w.publish("c0", w.large("1", data))
			synctest.Wait()
			wantData(t, got, data)
			for _, link := range links {
				path, ok := strings.CutPrefix(link, linkBase)
				if _, _, err := w.room.ParseLink(path); !ok || err != nil {
					t.Errorf("the dataref %.80q is no link of ours: %v", link, err)
				}
			}
			if n := len(w.objects()); len(links) != 2 || n != 1 {
				t.Errorf("%d links, %d objects; want 2 and 1", len(links), n)
			}
		})
	}
}

// A step that fails is tried again with a link that is valid then.
func TestLinkIsMadeAnewForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		defer w.stop()
		attempts := 0
		w.step("http://s0", func(r *egress.Request) egress.Result {
			attempts++
			if _, until, err := w.room.ParseLink(strings.TrimPrefix(r.Event.Get("dataref"), linkBase)); err != nil || time.Until(until) < linkTTL {
				t.Errorf("attempt %d: the link is valid until %v, %v", attempts, until, err)
			}
			if attempts < 4 {
				return status(503, "")(r)
			}
			return accept(r)
		})
		w.apply(sequence(1, channel.Never, func(_ int, s *channel.Subscription) {
			s.Subscriber.Reference = true
			s.Policy = egress.Policy{Retry: 10, Delay: 2 * linkTTL, Backoff: egress.Linear}
		})...)
		w.publish("c0", w.large("1", randomBytes(1, 10*threshold)))
		w.sleep(30 * linkTTL)
		if attempts != 4 {
			t.Errorf("%d attempts, want 4", attempts)
		}
	})
}

// What a client says stays what it said, and is never looked at.
func TestDatarefOfAClientIsNeitherFollowedNorReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		defer w.stop()
		var seen []string
		for i := range 2 {
			w.step(fmt.Sprintf("http://s%d", i), func(r *egress.Request) egress.Result {
				seen = append(seen, fmt.Sprint(r.Event.Get("dataref"), " ", r.Event.Size(), " ", len(r.Extra)))
				return passOn(i)(r)
			})
		}
		w.apply(sequence(2, channel.Never, func(_ int, s *channel.Subscription) { s.Subscriber.Reference = true })...)
		const ref = "file:///etc/passwd"
		e := ev("1").With(event.Attribute{Name: "dataref", Value: ref})
		e.Data = nil
		w.publish("c0", e)
		large := w.large("2", randomBytes(1, 10*threshold)).With(event.Attribute{Name: "dataref", Value: ref})
		w.publish("c0", large)
		synctest.Wait()
		counts := map[string]int{}
		for _, s := range seen {
			counts[s]++
		}
		if counts[ref+" 0 0"] != 2 || counts[fmt.Sprint(ref, " ", 10*threshold, " 0")] != 2 {
			t.Errorf("the steps saw %v", counts)
		}
	})
}

// A claim is worth something in a record of its own channel alone.
func TestClaimThatIsNotTheRecordsOwnIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		defer w.stop()
		var got [][]byte
		w.step("http://s0", keeping(&got))
		w.step("http://sink", accept)
		c := sequence(1, channel.Never, func(_ int, s *channel.Subscription) {
			s.DeadLetter = &channel.Destination{Target: egress.Target{URL: "http://sink"}}
		})
		w.apply(c...)
		of := func(owner string) string {
			claim, err := w.room.Store(t.Context(), claimcheck.Payload{Owner: owner, Length: -1, Rest: strings.NewReader("secret of " + owner)})
			if err != nil {
				t.Fatal(err)
			}
			h, err := w.room.Header(claim)
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		own := of("ns/c0")
		forged := strings.Replace(own, own[20:24], "AAAA", 1)
		for i, header := range []string{of("ns/other"), of("other/c0"), forged, "x", strings.Repeat("A", 4000)} {
			for _, data := range []string{"", "plain"} {
				e := ev(fmt.Sprint(i))
				e.Data = []byte(data)
				r := event.ToRecord(e, backend.Header{Name: "sidestep-claim", Value: header})
				if err := w.backend.Publish(t.Context(), "ns/c0", &r); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.sleep(time.Hour)
		for _, d := range got {
			if string(d) != "plain" {
				t.Errorf("a step got %q", d)
			}
		}
		if n := len(w.called("http://sink")); len(got) != 5 || n != 5 {
			t.Errorf("%d events with data were delivered, %d without are dead letters; want 5 and 5", len(got), n)
		}
	})
}

// Objects have readers of one namespace only.
func TestPayloadThatGoesToAnotherNamespaceIsStoredAnewThere(t *testing.T) {
	for _, mode := range []channel.ShortCircuit{channel.Never, channel.Always} {
		bubble(t, fmt.Sprint(mode), func(t *testing.T) {
			w := newPayloadWorld(t)
			defer w.stop()
			var got [][]byte
			w.step("http://s0", passOn(0))
			w.step("http://s1", keeping(&got))
			c := sequence(2, mode, nil)
			c[1].Namespace, c[0].Subscriptions[0].Reply.Channel = "there", "there/c1"
			w.apply(c...)
			data := randomBytes(1, 100*threshold)
			w.publish("c0", w.large("1", data))
			synctest.Wait()
			wantData(t, got, data)
			if mode == channel.Never {
				there := 0
				for _, o := range w.objects() {
					if strings.HasPrefix(o, "payload/there/") {
						there++
					}
				}
				if there != 1 {
					t.Errorf("the objects are %v: want one of the namespace there", w.objects())
				}
			}
			w.sleep(discarded)
			w.wantObjects(0, "when all was settled")
		})
	}
}

// A record that could not be settled comes back, and needs its payload then.
func TestPayloadOfARecordThatCouldNotBeSettledIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t, func(c *channel.Config) {
			c.Backend = faultbackend.New(c.Backend, faultbackend.Script(faultbackend.Rule{
				Op: faultbackend.Ack, First: 1, Last: -1, Fault: faultbackend.Fault{Do: faultbackend.Fail, Err: backend.ErrClosed},
			}))
		})
		defer w.stop()
		w.step("http://s0", accept)
		w.apply(sequence(1, channel.Never, nil)...)
		w.publish("c0", w.large("1", randomBytes(1, 10*threshold)))
		w.sleep(discarded)
		if n := w.lag("c0", "u0"); n != 1 {
			t.Fatalf("%d records are left, want 1", n)
		}
		w.wantObjects(1, "while its record is there")
	})
}

// When the dispatcher stops, what it settled last may not be written down yet.
func TestStoppingDeletesWhatWasSettledAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t)
		w.step("http://s0", accept)
		w.apply(sequence(1, channel.Never, nil)...)
		w.publish("c0", w.large("1", randomBytes(1, 10*threshold)))
		synctest.Wait()
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			w.stop()
		}()
		synctest.Wait()
		w.wantObjects(1, "as soon as it stops")
		<-stopped
		w.wantObjects(0, "when it has stopped")
	})
}

// What goes to a channel that nobody subscribes to is in no log.
func TestPayloadThatNobodySubscribesToIsDeleted(t *testing.T) {
	late := &channel.Subscription{UID: "late", Namespace: "ns", Name: "late", Subscriber: &egress.Target{URL: "http://late"}}
	for name, tt := range map[string]struct {
		then func(*channel.Channel)
		kept int
	}{
		"nobody":                     {func(*channel.Channel) {}, 0},
		"somebody came meanwhile":    {func(c *channel.Channel) { c.Subscriptions = append(c.Subscriptions, late) }, 1},
		"somebody is about to come":  {func(c *channel.Channel) { c.Shared = true }, 1},
		"the channel was taken away": {nil, 1},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newPayloadWorld(t)
			defer w.stop()
			w.apply(&channel.Channel{Namespace: "ns", Name: "c0"})
			w.publish("c0", w.large("1", randomBytes(1, 10*threshold)))
			if tt.then == nil {
				w.apply()
			} else {
				c := &channel.Channel{Namespace: "ns", Name: "c0"}
				tt.then(c)
				w.apply(c)
			}
			w.sleep(discarded)
			w.wantObjects(tt.kept, "after a while")
		})
	}
}

// Before the process dies the step passes the payload on unchanged; when the record
// comes back it answers with another. What the first answer's record refers to must
// not be deleted with the record that came back.
func TestPayloadThatAFormerRunPassedOnIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPayloadWorld(t, func(c *channel.Config) {
			c.Backend = faultbackend.New(c.Backend, faultbackend.Script(faultbackend.Rule{
				Op: faultbackend.Ack, First: 1, Last: -1, Fault: faultbackend.Fault{Do: faultbackend.Drop},
			}))
		})
		data, other := randomBytes(1, 10*threshold), randomBytes(2, 10*threshold)
		var got [][]byte
		w.step("http://s0", passOn(0))
		w.step("http://s1", status(503, ""))
		c := sequence(2, channel.Never, func(_ int, s *channel.Subscription) {
			s.Policy = egress.Policy{Retry: 100, Delay: 10 * time.Second}
		})
		w.apply(c...)
		w.publish("c0", w.large("1", data))
		synctest.Wait()
		w.stop() // the broker has not heard of any ack
		_ = w.backend.Close(context.Background())

		w.step("http://s0", reply(func(in *event.Event) *event.Event {
			out := *in
			out.Payload = w.payload("ns/c1", other)
			return &out
		}))
		w.backend = w.world.store.Connect()
		w.start(func(c *channel.Config) { c.Claims = w.claims })
		defer w.stop()
		w.apply(c...)
		w.sleep(time.Minute)
		w.step("http://s1", keeping(&got))
		w.sleep(time.Hour)
		for _, d := range got {
			if !bytes.Equal(d, data) && !bytes.Equal(d, other) {
				t.Errorf("the second step got %d bytes of neither answer", len(d))
			}
		}
		if len(got) == 0 {
			t.Error("the event never came to the second step: its payload was deleted")
		}
		if n := w.lag("c1", "u1"); n != 0 {
			t.Errorf("%d records are left", n)
		}
	})
}
