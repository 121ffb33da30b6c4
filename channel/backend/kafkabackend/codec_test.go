package kafkabackend

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// roundTrip sends a record through a batch.
func roundTrip(t *testing.T, r *backend.Record) (wireRecord, backend.Record) {
	t.Helper()
	b := beginBatch(nil)
	b = appendRecord(b, 0, &backend.Record{Data: []byte("another")})
	b = appendRecord(b, 1, r)
	endBatch(b, 0, 2, 1700000000000)
	read := batchReader{rest: b}
	if !read.next() {
		t.Fatalf("no batch: %v", read.err)
	}
	var w wireRecord
	for range 2 {
		if !read.record(&w) {
			t.Fatalf("no record: %v", read.err)
		}
	}
	var back backend.Record
	decodeRecord(&w, &back)
	if w.offset != 1 || w.timestamp != 1700000000000 || read.last != 1 {
		t.Errorf("offset %d, time %d, last %d", w.offset, w.timestamp, read.last)
	}
	return w, back
}

func checkSame(t *testing.T, got, want *backend.Record) {
	t.Helper()
	if got.Key != want.Key || !bytes.Equal(got.Data, want.Data) || !slices.Equal(got.Header, want.Header) {
		t.Errorf("%q came back as %q", want, got)
	}
}

// What the Kafka protocol binding says (CloudEvents, kafka-protocol-binding,
// section 3.2).
func TestAttributesTravelAsTheBindingSays(t *testing.T) {
	t.Parallel()
	r := &backend.Record{Key: "k", Data: []byte("data"), Header: []backend.Header{
		{Name: "ce-specversion", Value: "1.0"},
		{Name: "ce-source", Value: "/%C5%BElu%C5%A5"}, // as the HTTP binding encodes it
		{Name: "content-type", Value: "text/plain"},
		{Name: "sidestep-x", Value: "%20"},
	}}
	w, back := roundTrip(t, r)
	want := []wireHeader{
		{[]byte("ce_specversion"), []byte("1.0")},
		{[]byte("ce_source"), []byte("/žluť")},
		{[]byte("content-type"), []byte("text/plain")},
		{[]byte("sidestep-x"), []byte("%20")},
	}
	for i := range want {
		if !bytes.Equal(w.headers[i].name, want[i].name) || !bytes.Equal(w.headers[i].value, want[i].value) {
			t.Errorf("header %d: %s: %s, want %s: %s", i, w.headers[i].name, w.headers[i].value, want[i].name, want[i].value)
		}
	}
	if string(w.key) != "k" || string(w.value) != "data" {
		t.Errorf("key %q, value %q", w.key, w.value)
	}
	checkSame(t, &back, r)
}

func TestHeadersThatWouldBeTakenForOthersAreNot(t *testing.T) {
	t.Parallel()
	checkBack := func(h ...backend.Header) {
		t.Helper()
		r := &backend.Record{Header: h}
		_, back := roundTrip(t, r)
		checkSame(t, &back, r)
	}
	for _, name := range []string{"ce-", "ce_", "ce_id", "ce-id", "CE-id", ":ce-id", ":", "::", "", "ce", "c"} {
		for _, value := range []string{"", "plain", "%", "%2", "%20", "%2a", "%41", "%C3%A9", "é", " ", "\"", "\x00\xff", "a%20b%"} {
			checkBack(backend.Header{Name: name, Value: value}, backend.Header{Name: name, Value: value})
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("key", "ce-id", "1%20", "content-type", "text/plain", []byte("data"))
	f.Add("", "ce_id", "%", ":x", "\xff", []byte(nil))
	f.Fuzz(func(t *testing.T, key, name1, value1, name2, value2 string, data []byte) {
		r := &backend.Record{Key: key, Data: data, Header: []backend.Header{{Name: name1, Value: value1}, {Name: name2, Value: value2}}}
		_, back := roundTrip(t, r)
		checkSame(t, &back, r)
		n := len(appendRecord(nil, 0, r))
		if limit := r.Size() + 64; n > limit {
			t.Errorf("a record of %d bytes takes %d, which max.message.bytes does not allow for", r.Size(), n)
		}
	})
}

// FuzzBatch reads what a broker, or whoever is in its place, may send.
func FuzzBatch(f *testing.F) {
	b := beginBatch(nil)
	b = appendRecord(b, 0, &backend.Record{Key: "k", Header: []backend.Header{{Name: "ce-a", Value: "b"}}, Data: []byte("d")})
	endBatch(b, 0, 1, 1)
	f.Add(b, false)
	f.Add(append(b, b...), true)
	f.Fuzz(func(t *testing.T, p []byte, mend bool) {
		if mend && len(p) >= batchHeader { // or no mutation would get past the checksum
			binary.BigEndian.PutUint32(p[batchLengthAt:], uint32(len(p)-12))
			p[batchMagicAt] = 2
			binary.BigEndian.PutUint32(p[batchCRCAt:], crcOf(p))
		}
		r := batchReader{rest: p}
		var total int
		for r.next() {
			var w wireRecord
			for r.record(&w) {
				if w.offset < r.first || w.offset > r.last {
					t.Fatalf("offset %d of a batch from %d to %d", w.offset, r.first, r.last)
				}
				var d backend.Record
				decodeRecord(&w, &d)
				total += d.Size()
			}
		}
		if r.attributes&attrCompression == 0 && total > 64*len(p)+1024 {
			t.Errorf("%d bytes of records from %d", total, len(p))
		}
	})
}

func crcOf(b []byte) uint32 { return checksum(b[batchAttrAt:]) }

// FuzzFetch reads answers to fetch requests.
func FuzzFetch(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, p []byte) {
		var a fetchAnswer
		_ = parseFetch(p, &a)
	})
}

// The partition of a key is the one that Kafka's own clients choose
// (org.apache.kafka.common.utils.UtilsTest, testMurmur2).
func TestKeysGoWhereOtherClientsSendThem(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2(key)); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}
