package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
)

// These tests kill the dispatcher while events go through it whose data is in its
// store for payloads, a folder. What is in that folder is counted afterwards:
//
//	sender --> [dispatcher] --> step 0 --> step 1 --> ledger
//	  |          ^ SIGKILL  '--> folder                  |
//	  |                             '-- objects too many, or missing?
//	  +-- accepted posts ------------- missing? ---------+

// claims is the folder of the payloads.
func (i *installation) claims() string { return filepath.Join(i.data, "claims") }

// files counts what is in the folder: payloads, and all else.
func (i *installation) files(t testing.TB) (payloads, others int) {
	t.Helper()
	err := filepath.WalkDir(i.claims(), func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err) || err == nil && d.IsDir():
			return nil
		case err != nil:
			return err
		case strings.HasSuffix(path, ".tmp") || !strings.Contains(path, "/payload/"):
			others++
		default:
			payloads++
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return payloads, others
}

// sweep does what the dispatcher does every hour, as it would in eight days, while
// the oldest unsettled record is as old as it is said to be.
func (i *installation) sweep(t testing.TB, oldest time.Time) claimcheck.Swept {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(i.data, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	var state struct{ Key []byte }
	if err := json.Unmarshal(b, &state); err != nil {
		t.Fatal(err)
	}
	keys, err := claimcheck.NewKeys(state.Key)
	if err != nil {
		t.Fatal(err)
	}
	store, err := blobstore.File(i.claims())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	room, err := claimcheck.New(claimcheck.Config{
		Stores: map[string]claimcheck.Store{"it": store}, Current: "it", Keys: keys,
		Now: func() time.Time { return time.Now().Add(8 * 24 * time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	swept, err := room.Sweep(context.Background(), func(context.Context, string) (time.Time, error) { return oldest, nil })
	if err != nil {
		t.Fatal(err)
	}
	return swept
}

// audit stops the dispatcher, and looks at what is left when every record was settled:
// at most so many payloads that a kill made orphans of, and nothing after their time.
func (i *installation) audit(t *testing.T, orphans int) {
	t.Helper()
	if status := i.terminate(t); status != 0 {
		t.Errorf("exit status %d after SIGTERM", status)
	}
	payloads, others := i.files(t)
	if payloads > orphans {
		t.Errorf("%d payloads are left, that nothing refers to; at most %d were orphaned", payloads, orphans)
	}
	i.sweep(t, time.Time{})
	if p, o := i.files(t); p+o > 0 {
		t.Errorf("%d payloads and %d other files are left after their time", p, o)
	}
	t.Logf("left were %d payloads and %d other files, until their time was over", payloads, others)
}

// moment is when a test kills the dispatcher: once.
type moment struct {
	once sync.Once
	come chan struct{}
}

func newMoment() *moment { return &moment{come: make(chan struct{})} }

// now tells that it has come, and whether it is the first time.
func (m *moment) now() (first bool) {
	m.once.Do(func() {
		first = true
		close(m.come)
	})
	return first
}

func (m *moment) wait(t testing.TB) {
	t.Helper()
	select {
	case <-m.come:
	case <-time.After(patience):
		t.Fatal("the moment to kill did not come")
	}
}

// stages are where the dispatcher is killed in the course of a large event. The
// steps are healthy unless prepare replaces them; hit returns when it is time.
var stages = []struct {
	name    string
	prepare func(t *testing.T, r *trial, m *moment)
	hit     func(t *testing.T, r *trial, m *moment)
	late    bool // half a minute after the event
}{
	{
		name: "put",
		hit: func(t *testing.T, r *trial, _ *moment) {
			// Half of an event, beside the one that is to arrive.
			c, err := net.Dial("tcp", r.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			data := post{firstLarge, 1}.data()
			fmt.Fprintf(c, "POST /default/numbered-kn-sequence-0 HTTP/1.1\r\nHost: x\r\nce-id: half\r\nce-source: s\r\nce-type: t\r\n"+
				"ce-specversion: 1.0\r\nContent-Length: %d\r\n\r\n%s", len(data), data[:len(data)/2])
			await(t, "half a payload", func() bool { _, others := r.files(t); return others > 0 })
			r.kill()
		},
	},
	{
		name: "publish",
		hit: func(t *testing.T, r *trial, _ *moment) {
			await(t, "a payload", func() bool { n, _ := r.files(t); return n > 0 })
			r.kill()
		},
	},
	{
		name: "deliver",
		prepare: func(t *testing.T, r *trial, m *moment) {
			healthy := forward(t, r.calls)
			r.steps[0] = startEndpoint(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if m.now() {
					_, _ = io.CopyN(io.Discard, q.Body, 64<<10)
					<-q.Context().Done()
					return
				}
				healthy.ServeHTTP(w, q)
			}))
		},
	},
	{
		name: "reply",
		prepare: func(t *testing.T, r *trial, m *moment) {
			healthy := forward(t, r.calls)
			r.steps[1] = startEndpoint(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				select {
				case <-m.come:
					healthy.ServeHTTP(w, q)
					return
				default:
				}
				c, ok := receive(t, w, q)
				if !ok {
					return
				}
				for name, values := range c.header {
					if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
						w.Header()[name] = values
					}
				}
				// Another answer than what came: it goes to the store.
				other := bytes.Repeat([]byte("other"), largeSize/5)
				w.Header().Set("Content-Length", fmt.Sprint(2*len(other)))
				_, _ = w.Write(other)
				_ = http.NewResponseController(w).Flush()
				m.now()
				<-q.Context().Done()
			}))
		},
	},
	{
		name: "ack",
		prepare: func(t *testing.T, r *trial, m *moment) {
			healthy := collect(t, r.calls, r.end)
			r.steps[2] = startEndpoint(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				healthy.ServeHTTP(w, q)
				_ = http.NewResponseController(w).Flush()
				m.now()
			}))
		},
	},
	{
		name: "delete",
		late: true,
		hit: func(t *testing.T, r *trial, _ *moment) {
			awaitAll(t, r.sender, r.end)
			before, _ := r.files(t)
			await(t, "the first payload to be deleted", func() bool { n, _ := r.files(t); return n < before })
			r.kill()
		},
	},
}

func TestKillingTheDispatcherAtAnyStageOfALargeEventLosesNothing(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode string) {
		for i, s := range stages {
			t.Run(s.name, func(t *testing.T) {
				if !long() && (s.late || (i%2 == 0) != (mode == "Always")) {
					t.Skip("with SIDESTEP_LONG=1: each stage waits for redeliveries, or longer")
				}
				t.Parallel()
				const events = 5
				r, m := newTrial(t), newMoment()
				if s.prepare != nil {
					s.prepare(t, r, m)
				}
				r.installation = install(t, sequenceYAML(mode, patient, r.steps[:]...), "")
				r.sender = send(t, r.start(t), firstLarge, events, 1)
				if s.hit != nil {
					s.hit(t, r, m)
				} else {
					m.wait(t)
					r.kill()
				}
				r.start(t)
				awaitAll(t, r.sender, r.end)
				if long() || s.name == "ack" {
					awaitQuiet(t, r.end)
				}
				r.alive(t)
				// What came back is left to the sweeper, and so is what a post left
				// that got no answer.
				r.audit(t, events+int(r.broken.Load()))
			})
		}
	})
}

func TestKillingTheDispatcherLosesNoLargeEvent(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode string) {
		const events, clients = 200, 8
		r := newTrial(t)
		r.installation = install(t, sequenceYAML(mode, patient, r.steps[:]...), "")
		r.sender = send(t, r.start(t), firstLarge, scaled(events, 20*events), clients)
		k := r.killAtRandom(t, scaled(3, 40))
		awaitAll(t, r.sender, r.end)
		awaitQuiet(t, r.end)
		r.alive(t)
		t.Logf("%s: %d kills, %d events, %d posts refused and %d without an answer, %d duplicates",
			mode, k.kills, r.events, r.refused.Load(), r.broken.Load(), r.end.duplicates())
		// What had been settled waits for its deletion in memory: a kill forgets it.
		r.audit(t, r.events+int(r.broken.Load()))
	})
}

// Records that nobody takes for longer than payloads are kept, in a dispatcher that
// was killed: a sweep must leave what they refer to.
func TestSweepLeavesThePayloadsOfRecordsThatAreStuck(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long: it starts processes and kills them")
	}
	const events, clients = 40, 4
	r := newTrial(t)
	r.steps[2].close()
	r.installation = install(t, sequenceYAML("Never", patient, r.steps[:]...), "")
	url, begun := r.start(t), time.Now()
	r.sender = send(t, url, firstLarge, events, clients)
	await(t, "all events to be accepted", r.done)
	r.kill()
	before, _ := r.files(t)
	if before < events {
		t.Errorf("%d payloads for %d events", before, events)
	}
	swept := r.sweep(t, begun.Add(-time.Second))
	if after, _ := r.files(t); after != before || swept.Payloads > 0 {
		t.Errorf("%d of %d payloads were swept, to which records refer", before-after, before)
	}
	r.steps[2].open(t)
	r.start(t)
	awaitAll(t, r.sender, r.end)
	r.alive(t)
}
