package channel_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/faultstore"
)

// patience is for what must happen.
const patience = time.Minute

// wire is a dispatcher whose steps are reached over HTTP.
type wire struct {
	*payloadWorld
	arrived chan arrival
}

// arrival is what came to a step, read to its end or as far as it came.
type arrival struct {
	header http.Header
	length int64
	data   []byte
	err    error
}

func newWire(t *testing.T, edit ...func(*channel.ClaimsConfig)) *wire {
	t.Helper()
	return newKeepingWire(t, 0, edit...)
}

func newKeepingWire(t *testing.T, keep int, edit ...func(*channel.ClaimsConfig)) *wire {
	t.Helper()
	w := &wire{payloadWorld: &payloadWorld{depot: newKeepingDepot(t, keep, edit...)}, arrived: make(chan arrival, 100)}
	sender := egress.New(egress.Config{Payloads: w.claims})
	w.world = newWorld(t, func(c *channel.Config) { c.Claims, c.Sender = w.claims, sender })
	t.Cleanup(func() { w.stop(); sender.Close() })
	return w
}

// server starts a step, and returns its URL.
func (w *wire) server(h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	w.world.t.Cleanup(s.Close)
	return s.URL
}

// taking is a step that takes what comes, and then answers.
func (w *wire) taking(answer http.HandlerFunc) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		w.arrived <- arrival{r.Header, r.ContentLength, b, err}
		if err == nil {
			answer(rw, r.WithContext(context.WithValue(r.Context(), bodyKey{}, b)))
		}
	}
}

type bodyKey struct{}

func accepted(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusAccepted) }

// echo answers with the event that came, unchanged.
func echo(rw http.ResponseWriter, r *http.Request) {
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
			rw.Header()[name] = values
		}
	}
	b, _ := r.Context().Value(bodyKey{}).([]byte)
	_, _ = rw.Write(b)
}

func (w *wire) next(what string) arrival {
	w.world.t.Helper()
	select {
	case a := <-w.arrived:
		return a
	case <-time.After(patience):
		w.world.t.Fatalf("waited in vain for %s", what)
		return arrival{}
	}
}

func (w *wire) settled(n int) {
	w.world.t.Helper()
	for deadline := time.Now().Add(patience); len(w.endings()) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.world.t.Fatalf("%d records were settled, want %d", len(w.endings()), n)
		}
	}
}

// flow is n steps at these URLs.
func flow(edit func(i int, s *channel.Subscription), urls ...string) []*channel.Channel {
	return sequence(len(urls), channel.Always, func(i int, s *channel.Subscription) {
		s.Subscriber.URL = urls[i]
		s.Policy = egress.Policy{Retry: 100, Delay: 10 * time.Millisecond, Backoff: egress.Linear}
		if edit != nil {
			edit(i, s)
		}
	})
}

func TestPayloadIsDeliveredAsAnyOtherDataIs(t *testing.T) {
	t.Parallel()
	data := randomBytes(1, 1<<20+3)
	for name, how := range map[string]struct {
		format egress.Format
		keep   int
	}{
		"binary": {egress.Binary, 0}, "structured": {egress.Structured, 0},
		"binary, from memory": {egress.Binary, 4 << 20}, "structured, from memory": {egress.Structured, 4 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, format := newKeepingWire(t, how.keep), how.format
			w.apply(flow(func(_ int, s *channel.Subscription) { s.Policy.Format = format }, w.server(w.taking(accepted)))...)
			w.publish("c0", w.large("1", data))
			a := w.next("the delivery")
			if a.err != nil || a.length != int64(len(a.data)) {
				t.Fatalf("Content-Length %d, %d bytes, %v", a.length, len(a.data), a.err)
			}
			for field := range a.header {
				if strings.HasPrefix(field, "Sidestep-") {
					t.Errorf("the step sees the header %s", field)
				}
			}
			got := a.data
			if format == egress.Structured {
				e, err := event.FromHTTP(func(yield func(string, string) bool) { yield("content-type", a.header.Get("Content-Type")) }, a.data)
				if err != nil {
					t.Fatal(err)
				}
				got = e.Data
			}
			if !bytes.Equal(got, data) {
				t.Errorf("of %d bytes %d arrived, or others", len(data), len(got))
			}
			if opened := w.vault.Calls(faultstore.Open) > 0; opened == (how.keep > 0) {
				t.Errorf("it was read from the store: %v", opened)
			}
		})
	}
}

// By value, a wrong object never makes a complete request.
func TestCorruptedPayloadIsNeverACompleteRequest(t *testing.T) {
	t.Parallel()
	data := randomBytes(1, 3<<20)
	for name, at := range map[string]int{"first byte": 0, "in the middle": len(data) / 2, "last byte": len(data) - 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			sink := make(chan http.Header, 1)
			dead := w.server(func(rw http.ResponseWriter, r *http.Request) {
				sink <- r.Header
				rw.WriteHeader(http.StatusAccepted)
			})
			w.apply(flow(func(_ int, s *channel.Subscription) {
				s.Policy.Retry = 2
				s.DeadLetter = &channel.Destination{Target: egress.Target{URL: dead}}
			}, w.server(w.taking(accepted)))...)
			e := w.large("1", data)
			if err := w.vault.Overwrite(t.Context(), w.objects()[0], func(b []byte) []byte { b[at] ^= 1; return b }); err != nil {
				t.Fatal(err)
			}
			w.publish("c0", e)
			for range 3 {
				if a := w.next("an attempt"); a.err == nil || len(a.data) == len(data) {
					t.Errorf("a complete request came, of %d bytes: %v", len(a.data), a.err)
				}
			}
			select {
			case h := <-sink:
				if h.Get("Ce-Id") != "1" || h.Get("Ce-Knativeerrorcode") != "500" || h.Get("Ce-Knativeerrordata") == "" {
					t.Errorf("the dead letter's header is %v", h)
				}
			case <-time.After(patience):
				t.Fatal("there is no dead letter")
			}
		})
	}
}

func TestAnswerGoesToTheStoreAndAnUnchangedOneDoesNot(t *testing.T) {
	t.Parallel()
	data, other := randomBytes(1, 2<<20+1), randomBytes(2, 3<<20)
	// The answer goes to another step by value.
	run := func(t *testing.T, answer http.HandlerFunc, want []byte, puts int) {
		t.Parallel()
		w := newWire(t)
		first := w.server(w.taking(answer))
		w.apply(flow(nil, first, w.server(w.taking(accepted)))...)
		w.publish("c0", w.large("1", data))
		if a := w.next("the first step"); !bytes.Equal(a.data, data) {
			t.Errorf("the first step got %d bytes, %v", len(a.data), a.err)
		}
		if a := w.next("the second step"); !bytes.Equal(a.data, want) {
			t.Errorf("the second step got %d bytes, want %d, %v", len(a.data), len(want), a.err)
		}
		w.settled(1)
		if n := w.vault.Calls(faultstore.Put); n != puts {
			t.Errorf("%d objects were put, want %d", n, puts)
		}
	}
	with := func(body []byte, chunked bool) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
			if chunked {
				rw.WriteHeader(http.StatusOK)
			}
			echo(rw, r)
		}
	}
	t.Run("unchanged", func(t *testing.T) { run(t, echo, data, 1) })
	t.Run("another", func(t *testing.T) { run(t, with(other, false), other, 2) })
	t.Run("the same but for its last byte", func(t *testing.T) {
		changed := bytes.Clone(data)
		changed[len(changed)-1] ^= 1
		run(t, with(changed, false), changed, 2)
	})
	t.Run("small", func(t *testing.T) { run(t, with([]byte("thumbnail"), false), []byte("thumbnail"), 1) })
	t.Run("structured", func(t *testing.T) {
		run(t, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/cloudevents+json")
			fmt.Fprintf(rw, `{"specversion":"1.0","id":"2","source":"s","type":"t","data":%q}`, strings.Repeat("x", 100<<10))
		}, []byte(`"`+strings.Repeat("x", 100<<10)+`"`), 2)
	})
}

// An answer that is cut short is no answer, and nothing of it is kept.
func TestAnswerThatIsCutShortIsAFailure(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	other := randomBytes(2, 1<<20)
	var calls atomic.Int32
	first := w.server(w.taking(func(rw http.ResponseWriter, r *http.Request) {
		if calls.Add(1) < 4 {
			rw.Header().Set("Content-Length", fmt.Sprint(len(other)+1))
			echo(rw, r.WithContext(context.WithValue(r.Context(), bodyKey{}, other)))
			panic(http.ErrAbortHandler)
		}
		echo(rw, r.WithContext(context.WithValue(r.Context(), bodyKey{}, other)))
	}))
	got := make(chan arrival, 10)
	last := w.server(func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		got <- arrival{data: b, err: err}
		rw.WriteHeader(http.StatusAccepted)
	})
	w.apply(flow(nil, first, last)...)
	w.publish("c0", ev("1"))
	select {
	case a := <-got:
		if !bytes.Equal(a.data, other) {
			t.Errorf("the second step got %d bytes, %v", len(a.data), a.err)
		}
	case <-time.After(patience):
		t.Fatal("the second step got nothing")
	}
	w.settled(1)
	w.wantObjects(1, "after three answers that were cut")
}

// A step that breaks off, or answers before it has read all, says what it says: it is
// not the payload's fault.
func TestStepThatDoesNotReadAllIsHeeded(t *testing.T) {
	t.Parallel()
	data := randomBytes(1, 8<<20)
	for _, code := range []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusAccepted} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			sink := make(chan string, 100)
			dead := w.server(func(rw http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(io.Discard, r.Body)
				sink <- fmt.Sprint(r.Header.Get("Ce-Knativeerrorcode"), " ", n, " ", err)
				rw.WriteHeader(http.StatusAccepted)
			})
			var calls atomic.Int32
			step := w.server(func(rw http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
				rw.WriteHeader(code)
				_ = http.NewResponseController(rw).Flush()
			})
			w.apply(flow(func(_ int, s *channel.Subscription) {
				s.DeadLetter = &channel.Destination{Target: egress.Target{URL: dead}}
			}, step)...)
			const n = 4
			for i := range n {
				w.publish("c0", w.large(fmt.Sprint(i), data))
			}
			w.settled(n)
			// The other side may be too late to say it, and then it is asked again; but
			// whatever it said was taken for what it is.
			want := fmt.Sprint(code, " ", len(data), " <nil>")
			for len(sink) > 0 {
				if got := <-sink; got != want {
					t.Errorf("a dead letter with code, bytes and error %q, want %q", got, want)
				}
			}
			t.Logf("%d events, %d calls", n, calls.Load())
		})
	}
}

func TestStepThatCutsTheConnectionGetsTheWholePayloadAgain(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	data := randomBytes(1, 4<<20)
	var calls atomic.Int32
	whole := w.taking(accepted)
	step := w.server(func(rw http.ResponseWriter, r *http.Request) {
		if calls.Add(1) < 4 {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			panic(http.ErrAbortHandler)
		}
		whole(rw, r)
	})
	w.apply(flow(nil, step)...)
	w.publish("c0", w.large("1", data))
	if a := w.next("the delivery"); !bytes.Equal(a.data, data) || a.err != nil {
		t.Errorf("%d bytes came, %v", len(a.data), a.err)
	}
	w.settled(1)
}

// The store is down when the step answers: it is called again when the store is
// back, and nothing is lost.
func TestAnswerThatCannotBeStoredWaitsForTheStore(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{claimcheck.ErrUnavailable, claimcheck.ErrFull} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			other := randomBytes(2, 1<<20)
			var calls atomic.Int32
			first := w.server(func(rw http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 3 {
					w.vault.SetPlan(nil)
				}
				echo(rw, r.WithContext(context.WithValue(r.Context(), bodyKey{}, other)))
			})
			dead := w.server(func(rw http.ResponseWriter, _ *http.Request) {
				t.Error("a dead letter: the store is nobody's fault")
				rw.WriteHeader(http.StatusAccepted)
			})
			w.apply(flow(func(_ int, s *channel.Subscription) {
				s.Policy.Retry = 0
				s.DeadLetter = &channel.Destination{Target: egress.Target{URL: dead}}
			}, first, w.server(w.taking(accepted)))...)
			w.vault.Down(cause)
			w.publish("c0", ev("1"))
			if a := w.next("the second step"); !bytes.Equal(a.data, other) || a.err != nil {
				t.Errorf("the second step got %d bytes, %v", len(a.data), a.err)
			}
			w.settled(1)
		})
	}
}

// Whatever a step refers to is passed on as it is: nobody connects there.
func TestDatarefOfAStepIsNeverFetched(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var touched atomic.Bool
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			c, err := trap.Accept()
			if err != nil {
				return
			}
			touched.Store(true)
			c.Close()
		}
	})
	refs := []string{
		"http://" + trap.Addr().String() + "/claims/x", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd",
		"file:///proc/self/environ", linkBase + claimcheck.LinkPath + "AAAA", linkBase + claimcheck.LinkPath + "../../etc/passwd",
	}
	var i atomic.Int32
	first := w.server(func(rw http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			if strings.HasPrefix(name, "Ce-") {
				rw.Header()[name] = values
			}
		}
		rw.Header().Set("Ce-Dataref", refs[int(i.Add(1)-1)%len(refs)])
		rw.Header().Set("Sidestep-Claim", "size=5;sha256=00")
		rw.WriteHeader(http.StatusOK)
	})
	w.apply(flow(func(_ int, s *channel.Subscription) { s.Subscriber.Reference = true }, first, w.server(w.taking(accepted)))...)
	for n := range refs {
		w.publish("c0", ev(fmt.Sprint(n)))
	}
	seen := map[string]bool{}
	for range refs {
		a := w.next("the second step")
		seen[a.header.Get("Ce-Dataref")] = true
		if len(a.data) > 0 || a.header.Get("Sidestep-Claim") != "" {
			t.Errorf("the step got %d bytes and the header Sidestep-Claim %q", len(a.data), a.header.Get("Sidestep-Claim"))
		}
	}
	for _, ref := range refs {
		if !seen[ref] {
			t.Errorf("the dataref %s did not arrive as it was", ref)
		}
	}
	w.settled(len(refs))
	trap.Close()
	watch.Wait()
	if touched.Load() {
		t.Error("somebody connected to where a dataref led")
	}
}

func TestByReferenceTheLinkYieldsThePayload(t *testing.T) {
	t.Parallel()
	var w *wire
	links := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.room.Handler().ServeHTTP(rw, r) }))
	t.Cleanup(links.Close)
	w = newWire(t, func(c *channel.ClaimsConfig) { c.LinkBase = links.URL })
	data := randomBytes(1, 2<<20+5)
	w.apply(flow(func(i int, s *channel.Subscription) { s.Subscriber.Reference = i == 0 }, w.server(w.taking(echo)), w.server(w.taking(accepted)))...)
	w.publish("c0", w.large("1", data))
	a := w.next("the reference")
	sum := sha256.Sum256(data)
	if want := fmt.Sprintf("size=%d;sha256=%x", len(data), sum); len(a.data) != 0 || a.header.Get("Sidestep-Claim") != want {
		t.Errorf("%d bytes came, and the header %q; want none and %q", len(a.data), a.header.Get("Sidestep-Claim"), want)
	}
	if got := a.header.Get("Content-Type"); got != "image/png" {
		t.Errorf("the data's type is %q", got)
	}
	for rng, want := range map[string][]byte{"": data, "bytes=1048570-1048585": data[1048570:1048586], "bytes=-5": data[len(data)-5:]} {
		r, err := http.NewRequest(http.MethodGet, a.header.Get("Ce-Dataref"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if rng != "" {
			r.Header.Set("Range", rng)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q yields %d bytes, %v; want %d", rng, len(got), err, len(want))
		}
	}
	if b := w.next("the second step, by value"); !bytes.Equal(b.data, data) {
		t.Errorf("the second step got %d bytes, %v", len(b.data), b.err)
	}
	w.settled(1)
	if n := len(w.objects()); n != 1 {
		t.Errorf("%d objects, want 1", n)
	}
}

// 256 MiB go in, to a step, and 256 others come back from it and go to the next.
// What is in memory meanwhile is a few buffers.
func TestLargePayloadPassesInConstantMemory(t *testing.T) {
	const size = 256 << 20
	w := newWire(t)
	store := newGenerated(size)
	keys, err := claimcheck.NewKeys(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	room, err := claimcheck.New(claimcheck.Config{Stores: map[string]claimcheck.Store{"main": store}, Current: "main", Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := channel.NewClaims(channel.ClaimsConfig{Room: room})
	if err != nil {
		t.Fatal(err)
	}
	sender := egress.New(egress.Config{Payloads: claims})
	defer sender.Close()
	w.stop()
	w.start(func(c *channel.Config) { c.Claims, c.Sender = claims, sender })

	check := func(seed byte, r *http.Request) {
		if n, err := io.Copy(&comparing{want: pattern(seed, 0, size)}, r.Body); n != size || err != nil {
			t.Errorf("%d bytes came, %v", n, err)
		}
	}
	first := w.server(func(rw http.ResponseWriter, r *http.Request) {
		check(1, r)
		rw.Header().Set("Ce-Specversion", "1.0")
		for name, v := range map[string]string{"Ce-Id": "2", "Ce-Type": "t", "Ce-Source": "s", "Content-Type": "video/mp4"} {
			rw.Header().Set(name, v)
		}
		_, _ = io.Copy(rw, pattern(2, 0, size))
	})
	last := w.server(func(rw http.ResponseWriter, r *http.Request) {
		check(2, r)
		rw.WriteHeader(http.StatusAccepted)
	})
	w.apply(flow(nil, first, last)...)

	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
		}
	}()
	p, err := claims.Store(t.Context(), event.Incoming{Owner: "ns/c0", Rest: pattern(1, 0, size), Length: size})
	if err != nil {
		t.Fatal(err)
	}
	e := ev("1")
	e.Data, e.Payload = nil, p
	w.publish("c0", e)
	w.settled(1)
	close(stop)
	<-done
	const most64 = 64 << 20 // a quarter of one payload, of which there were four transfers
	if grown := int64(most) - int64(before); grown > most64 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	} else {
		t.Logf("the heap grew by %d KiB", grown>>10)
	}
}

// comparing holds what is written to it to what it should be.
type comparing struct {
	want io.Reader
	b    [32 << 10]byte
}

func (c *comparing) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		k, err := c.want.Read(c.b[:min(len(c.b), len(p)-n)])
		if err != nil || !bytes.Equal(c.b[:k], p[n:n+k]) {
			return n, errors.New("other bytes than were sent")
		}
		n += k
	}
	return len(p), nil
}
