package ingress_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/faultbackend"
	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/faultstore"
)

// inChunks sends a request without its length.
func inChunks(body []byte) func(*http.Request) {
	return func(r *http.Request) { r.ContentLength, r.Body = -1, io.NopCloser(bytes.NewReader(body)) }
}

func TestDataBeyondTheThresholdGoesToTheStoreInOnePass(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withPayloads, func(s *setup) { s.bytes = 64 << 20 }).serve()
	for _, n := range []int{0, 1, threshold - 1, threshold, threshold + 1, 3 * threshold, 1 << 20, 1<<20 + 1, mostEvent} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, chunked %v", n, chunked), func(t *testing.T) {
				body := bytesOf(byte(n), n)
				before, puts := f.objects(), f.payloads.Calls(faultstore.Put)
				edit := func(*http.Request) {}
				if chunked {
					edit = inChunks(body)
				}
				f.post(string(body), edit).want(t, http.StatusAccepted, "")
				want := 0
				if n > threshold {
					want = 1
				}
				if got := f.objects() - before; got != want {
					t.Errorf("%d payloads were stored, want %d", got, want)
				}
				if got := f.payloads.Calls(faultstore.Put) - puts; got != want {
					t.Errorf("%d objects were put, want %d", got, want)
				}
			})
		}
	}
	f.wantBudgetFree()
}

func TestStoredDataIsWhatWasSent(t *testing.T) {
	t.Parallel()
	for _, n := range []int{threshold + 1, 1<<20 + 7} {
		f := newFixture(t, withPayloads).serve()
		body := bytesOf(1, n)
		f.post(string(body), inChunks(body)).want(t, http.StatusAccepted, "")
		if got := f.stored(); !bytes.Equal(got, body) {
			t.Errorf("of %d bytes %d were stored, or others", n, len(got))
		}
	}
}

func TestDataInStructuredModeGoesToTheStoreByItsSize(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withPayloads).serve()
	structured := func(n int) string {
		return `{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"text/plain","data":"` +
			strings.Repeat("x", n) + `"}`
	}
	asStructured := func(r *http.Request) { r.Header = http.Header{"Content-Type": {"application/cloudevents+json"}} }
	f.post(structured(threshold), asStructured).want(t, http.StatusAccepted, "")
	f.wantObjects(0)
	f.post(structured(threshold+1), asStructured).want(t, http.StatusAccepted, "")
	f.wantObjects(1)
	// It has a limit of its own, as it must be in memory.
	for _, edit := range []func(*http.Request){asStructured, func(r *http.Request) {
		asStructured(r)
		r.ContentLength, r.Body = -1, chunks(structured(mostStructured))
	}} {
		f.post(structured(mostStructured), edit).
			want(t, http.StatusRequestEntityTooLarge, "", strconv.Itoa(mostStructured))
	}
	f.wantObjects(1)
	f.wantStored(2)
	f.wantBudgetFree()
}

// Who asks first is told by the limit of the mode that it is in.
func TestBodyBeyondALimitIsNeverSentByWhoAsksFirst(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		contentType string
		limit       int64
	}{
		"binary":     {"text/plain", mostEvent},
		"structured": {"application/cloudevents+json", mostStructured},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, withPayloads).serve()
			client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: patience, DisableKeepAlives: true}}
			r := request(context.Background(), f.url, "", with("Expect", "100-continue"))
			r.Header.Set("Content-Type", tt.contentType)
			r.Body, r.ContentLength = io.NopCloser(unread{t}), tt.limit+1
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			read(t, res).want(t, http.StatusRequestEntityTooLarge, "", fmt.Sprint(tt.limit), fmt.Sprint(tt.limit+1))
			f.wantStored(0)
			f.wantObjects(0)
			f.wantBudgetFree()
		})
	}
}

func TestBodyThatGrowsBeyondTheLimitLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withPayloads).serve()
	body := bytesOf(1, mostEvent+1)
	f.post("", inChunks(body)).want(t, http.StatusRequestEntityTooLarge, "", strconv.Itoa(mostEvent))
	f.wantStored(0)
	f.wantObjects(0)
	f.wantBudgetFree()
}

func TestClientThatLeavesInTheMiddleOfAPayloadLeavesNothing(t *testing.T) {
	t.Parallel()
	half := string(bytesOf(1, 300<<10))
	for name, begin := range map[string]string{
		"of known length":      "Content-Length: 1000000\r\n\r\n" + half,
		"in chunks":            fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s", 1_000_000, half),
		"between two chunks":   fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(half), half),
		"a chunk without size": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nzz\r\n", len(half), half),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, withPayloads).serve()
			c := f.dial()
			fmt.Fprint(c, head+begin)
			f.eventually("the payload to come in", func() bool { return f.payloads.Calls(faultstore.Put) > 0 })
			c.Close()
			if got := f.observed(1)[0]; got != 400 && got != 499 {
				t.Errorf("it was counted as %d, want 400 or 499", got)
			}
			f.wantStored(0)
			f.wantObjects(0)
			f.wantBudgetFree()
		})
	}
}

// A client that sends more than it announced sends another request, and a malformed
// one at that.
func TestPayloadEndsWhereItsLengthSays(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withPayloads).serve()
	c := f.dial()
	body := bytesOf(1, 10*threshold)
	fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, 5*threshold, body)
	f.wantAnswer(c, http.StatusAccepted)
	if got := f.stored(); !bytes.Equal(got, body[:5*threshold]) {
		t.Errorf("%d bytes were stored, want the first %d", len(got), 5*threshold)
	}
}

// What became of an event that was refused for certain is deleted; what may be in
// the log is kept.
func TestPayloadOfAnEventThatWasNotStoredIsDeletedIfThatIsCertain(t *testing.T) {
	t.Parallel()
	fail := func(err error) faultbackend.Fault { return faultbackend.Fault{Do: faultbackend.Fail, Err: err} }
	tests := []struct {
		name   string
		faults []faultbackend.Fault // of one publish after the other
		status int
		kept   int
	}{
		{"too large for the backend", []faultbackend.Fault{fail(backend.ErrTooLarge)}, 413, 0},
		{"sealed", []faultbackend.Fault{fail(backend.ErrSealed)}, 503, 0},
		{"full", []faultbackend.Fault{fail(backend.ErrFull)}, 503, 0},
		{"the log is gone", []faultbackend.Fault{fail(backend.ErrNotFound)}, 404, 0},
		{"an error of no name", []faultbackend.Fault{fail(errors.New("what"))}, 503, 1},
		{"stored, and the answer lost, then full", []faultbackend.Fault{
			{Do: faultbackend.LoseConfirmation, Err: backend.ErrUnavailable}, fail(backend.ErrFull),
		}, 503, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, withPayloads)
			var rules []faultbackend.Rule
			for i, fault := range tt.faults {
				rules = append(rules, faultbackend.Rule{Op: faultbackend.Publish, First: i + 1, Last: i + 1, Fault: fault})
			}
			f.faults.SetPlan(faultbackend.Script(rules...))
			a := f.call(t.Context(), string(bytesOf(1, 10*threshold)))
			if a.status != tt.status {
				t.Fatalf("got status %d, %q; want %d", a.status, a.text, tt.status)
			}
			f.closeDispatcher() // which deletes what is to be deleted
			f.wantObjects(tt.kept)
		})
	}
}

// The client goes while its event is on its way to the log: it may get there.
func TestPayloadIsKeptWhenItsClientGoesDuringThePublish(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := newFixture(t, withPayloads, func(s *setup) {
		s.wrap = func(b backend.Backend) backend.Backend { return abandoned{b, cancel} }
	})
	if got := f.callStatus(ctx, string(bytesOf(1, 10*threshold))); got < 400 {
		t.Errorf("the answer was %d", got)
	}
	f.closeDispatcher()
	f.wantStored(1)
	f.wantObjects(1)
}

// abandoned stores records that nobody waits for any more.
type abandoned struct {
	backend.Backend
	leave func()
}

func (a abandoned) Publish(ctx context.Context, log string, r *backend.Record) error {
	a.leave()
	if err := a.Backend.Publish(context.WithoutCancel(ctx), log, r); err != nil {
		return err
	}
	return ctx.Err()
}

func TestStoreThatIsDownRefusesLargeEventsAndNoSmallOnes(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{claimcheck.ErrUnavailable, claimcheck.ErrFull} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, withPayloads).serve()
			f.payloads.Down(fmt.Errorf("put: %w: secret inside", cause))
			large := bytesOf(1, mostEvent)
			for range 3 {
				a := f.post(string(large), nil)
				a.want(t, http.StatusServiceUnavailable, "5", "store for large payloads")
				if strings.Contains(a.text, "secret") {
					t.Errorf("the answer tells of the inside: %q", a.text)
				}
				f.post("", inChunks(large)).want(t, http.StatusServiceUnavailable, "5", "store for large payloads")
				f.post("small", nil).want(t, http.StatusAccepted, "")
			}
			f.wantStored(3)
			f.payloads.SetPlan(nil)
			f.post(string(large), nil).want(t, http.StatusAccepted, "")
			f.wantStored(4)
			f.wantObjects(1)
			f.wantBudgetFree()
		})
	}
}

// The plainest of clients writes all of its request before it reads the answer.
// It must not find a reset instead.
func TestRefusalInTheMiddleOfABodyReachesAClientThatStillSends(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		line, length string
		status       int
	}{
		"store down":      {"POST /ns/a HTTP/1.1", "Content-Length: 8000000", http.StatusServiceUnavailable},
		"too large":       {"POST /ns/a HTTP/1.1", "Content-Length: 8000000000", http.StatusRequestEntityTooLarge},
		"no such channel": {"POST /ns/none HTTP/1.1", "Content-Length: 8000000", http.StatusNotFound},
		"no event":        {"POST /ns/a HTTP/1.1", "Content-Length: 8000000\r\nce-id:", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, withPayloads).serve()
			f.payloads.Down(claimcheck.ErrUnavailable)
			c := f.dial()
			fmt.Fprint(c, strings.Replace(head, "POST /ns/a HTTP/1.1", tt.line, 1)+tt.length+"\r\n\r\n")
			for range 7 {
				if _, err := c.Write(bytesOf(1, 1<<20)); err != nil {
					t.Fatalf("the connection was cut before the answer could be read: %v", err)
				}
			}
			f.wantStatus(c, tt.status)
			f.wantStored(0)
			f.wantBudgetFree()
		})
	}
}

// What streams through is not in memory: what is charged is what it streams through.
func TestBudgetIsChargedForTheBuffersOfWhatStreamsThrough(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withPayloads, func(s *setup) { s.bytes = 1 << 20 }).serve()
	buffers := f.room.Memory(mostEvent)
	for _, chunked := range []bool{false, true} {
		came, open := make(chan struct{}, 1), make(chan struct{})
		f.payloads.SetPlan(func(faultstore.Op, string) error {
			came <- struct{}{}
			<-open
			return nil
		})
		body := bytesOf(1, mostEvent)
		edit := func(*http.Request) {}
		if chunked {
			edit = inChunks(body)
		}
		done := make(chan answer, 1)
		go func() { done <- f.post(string(body), edit) }()
		wait(t, "the payload to come in", came)
		if used := f.budget.Used(); used < buffers || used > buffers+16<<10 {
			t.Errorf("%d bytes are charged while %d stream through, chunked %v, want a few more than %d", used, mostEvent, chunked, buffers)
		}
		// So there is no room for another one, but for a small event.
		f.post(string(body), edit).want(t, http.StatusServiceUnavailable, "1", "no memory")
		f.post("small", func(*http.Request) {}).want(t, http.StatusAccepted, "")
		f.payloads.SetPlan(nil)
		close(open)
		(<-done).want(t, http.StatusAccepted, "")
	}
	f.wantBudgetFree()
}

// 10,000 small and 100 large events at once, a tenth of that unless asked for more.
func TestManySmallAndLargeEventsAtOnce(t *testing.T) {
	t.Parallel()
	const clients = 64
	small, large := scaled(1000, 10_000), scaled(20, 100)
	f := newFixture(t, withPayloads, func(s *setup) { s.bytes = 64 << 20 }).serve()
	type job struct{ id, size int }
	jobs := make(chan job)
	go func() {
		defer close(jobs)
		for i := range small + large {
			size := i%threshold + 1
			if i%((small+large)/large) == 0 {
				size = 1<<20 + i
			}
			jobs <- job{i, size}
		}
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	var posts sync.WaitGroup
	var mu sync.Mutex
	stored := 0
	for range clients {
		posts.Go(func() {
			for j := range jobs {
				body := string(bytesOf(byte(j.id), j.size))
				res, err := (&http.Client{Transport: transport}).Do(request(context.Background(), f.url, body, with("ce-id", strconv.Itoa(j.id))))
				if err != nil {
					t.Error(err)
					return
				}
				if a := read(t, res); a.status != http.StatusAccepted {
					t.Errorf("event %d of %d bytes: %d %s", j.id, j.size, a.status, a.text)
				}
				if j.size > threshold {
					mu.Lock()
					stored++
					mu.Unlock()
				}
			}
		})
	}
	posts.Wait()
	f.wantStored(int64(small + large))
	f.wantObjects(stored)
	f.wantBudgetFree()
}

func TestPayloadWhoseChannelIsRemovedMeanwhileIsDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withPayloads).serve()
	body := bytesOf(1, 1<<20)
	c := f.dial()
	fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body[:len(body)/2])
	f.eventually("the payload to come in", func() bool { return f.payloads.Calls(faultstore.Put) > 0 })
	f.apply()
	fmt.Fprintf(c, "%s", body[len(body)/2:])
	f.wantStatus(c, http.StatusNotFound)
	f.closeDispatcher()
	f.wantStored(0)
	f.wantObjects(0)
	f.wantBudgetFree()
}
