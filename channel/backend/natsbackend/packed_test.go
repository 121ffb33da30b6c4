package natsbackend

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// randomRecord favours the lengths at which a varint grows.
func randomRecord(r *rand.Rand) *backend.Record {
	text := func() string {
		n := []int{0, 1, 127, 128, 129, r.IntN(300), 16383, 16384}[r.IntN(8)]
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	rec := &backend.Record{Key: text(), Data: []byte(text())}
	for range r.IntN(20) {
		rec.Header = append(rec.Header, backend.Header{Name: text(), Value: text()})
	}
	return rec
}

func equalRecords(a, b *backend.Record) bool {
	return a.Key == b.Key && bytes.Equal(a.Data, b.Data) && slices.Equal(a.Header, b.Header)
}

func TestDecodeDoesNotChangeWhatWasEncoded(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		want := randomRecord(r)
		var got backend.Record
		if err := decodePacked(appendPacked(nil, want), &got); err != nil {
			t.Fatalf("decode of %d headers: %v", len(want.Header), err)
		}
		if !equalRecords(&got, want) {
			t.Fatalf("a record with %d headers came back different", len(want.Header))
		}
	}
}

// An append to a decoded record's data must not reach what else the message holds.
func TestDecodeDoesNotLetDataGrowIntoTheMessage(t *testing.T) {
	t.Parallel()
	p := appendPacked(make([]byte, 0, 64), &backend.Record{Data: []byte("data")})
	var got backend.Record
	if err := decodePacked(p, &got); err != nil {
		t.Fatal(err)
	}
	if cap(got.Data) != len(got.Data) {
		t.Fatalf("data of %d bytes has room for %d", len(got.Data), cap(got.Data))
	}
}

func TestDecodeRefusesEveryPrefixThatCutsAHeader(t *testing.T) {
	t.Parallel()
	p := appendPacked(nil, &backend.Record{
		Key:    "key",
		Header: []backend.Header{{Name: "ce-id", Value: "1"}, {Name: "ce-type", Value: strings.Repeat("t", 200)}},
	})
	for n := range len(p) {
		var got backend.Record
		if err := decodePacked(p[:n], &got); !errors.Is(err, errMalformed) {
			t.Errorf("the first %d of %d bytes: %v, want errMalformed", n, len(p), err)
		}
	}
}

func FuzzDecodePacked(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{packedVersion})
	f.Add([]byte{packedVersion, 0, 0})
	f.Add([]byte{packedVersion + 1, 0, 0})
	f.Add([]byte{packedVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}) // key
	f.Add([]byte{packedVersion, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}) // count
	f.Add([]byte{packedVersion, 0, 2, 0, 0, 0, 0})
	f.Add(appendPacked(nil, &backend.Record{
		Key: "k", Header: []backend.Header{{Name: "ce-id", Value: "1"}, {Name: "a", Value: "b"}}, Data: []byte("{}"),
	}))
	f.Fuzz(func(t *testing.T, p []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var r backend.Record
		err := decodePacked(p, &r)
		runtime.ReadMemStats(&after)
		// An entry of two bytes becomes one of 32. The rest is for other
		// goroutines of the fuzzing process.
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(17*len(p)+1<<20); got > most {
			t.Fatalf("%d bytes had %d allocated", len(p), got)
		}
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatalf("error %v, want errMalformed", err)
			}
			return
		}
		var again backend.Record
		if err := decodePacked(appendPacked(nil, &r), &again); err != nil || !equalRecords(&r, &again) {
			t.Fatalf("%+v came back as %+v, %v", r, again, err)
		}
	})
}

// worstRecord has size bytes in the shape that needs most beyond them: names
// and values just long enough for one more byte of length each.
func worstRecord(size int) *backend.Record {
	r := new(backend.Record)
	h := backend.Header{Name: strings.Repeat("n", 128), Value: strings.Repeat("v", 1<<14)}
	for r.Size()+len(h.Name)+len(h.Value)+4 <= size {
		r.Header = append(r.Header, h)
	}
	r.Key = strings.Repeat("k", size-r.Size())
	return r
}

func TestALargestRecordDoesNotExceedTheMessageLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t, ServerConfig{})
	b := connectTo(t, Config{Server: s})
	log := makeLog(t, b, false, "g")
	limit := b.Limits().MaxRecordBytes
	for name, r := range map[string]*backend.Record{
		"data":    {Data: make([]byte, limit)},
		"headers": worstRecord(limit),
	} {
		r.Dedup = name
		if got := r.Size(); got != limit {
			t.Fatalf("%s: the record has %d bytes, want %d", name, got, limit)
		}
		if err := b.Publish(ctxOf(t), log, r); err != nil {
			t.Errorf("%s: Publish of %d bytes: %v", name, limit, err)
		}
	}
	sub := subscribe(t, b, log, "g", backend.Options{})
	for range 2 {
		d := receive(t, sub)
		if d.Size() != limit {
			t.Errorf("received %d bytes, want %d", d.Size(), limit)
		}
		ackAll(t, sub, d)
	}
}
