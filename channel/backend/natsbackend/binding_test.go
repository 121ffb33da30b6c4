package natsbackend

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/percent"
)

// head is a header of names and values.
func head(pairs ...string) []backend.Header {
	var h []backend.Header
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, backend.Header{Name: pairs[i], Value: pairs[i+1]})
	}
	return h
}

// roundTrip is what a reader gets of r.
func roundTrip(t *testing.T, r *backend.Record) (backend.Record, bool) {
	t.Helper()
	p, n := appendMessage(nil, "INC", r)
	var got backend.Record
	if err := decodeMessage(p, n > 0, &got); err != nil {
		t.Fatalf("decode of key %.50q, header %.300q: %v", r.Key, r.Header, err)
	}
	return got, n > 0 && strings.Count(string(p[:n]), newline) > 2+min(len(r.Dedup), 1)
}

func TestBindingDoesNotChangeRecords(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		record *backend.Record
		bound  bool
	}{
		"nothing":             {&backend.Record{}, false},
		"data alone":          {&backend.Record{Data: []byte("\x01\x00\x00d")}, false},
		"a key alone":         {&backend.Record{Key: "k"}, true},
		"an event":            {&backend.Record{Header: head("ce-id", "1", "content-type", "a/b"), Data: []byte("\xff")}, true},
		"empty values":        {&backend.Record{Header: head("a", "", "b", "")}, true},
		"case and order":      {&backend.Record{Header: head("B", "1", "b", "2", "a", "3", "B", "1")}, true},
		"packed data in it":   {&backend.Record{Header: head("a", "b"), Data: []byte{packedVersion, 0, 0}}, true},
		"header block in it":  {&backend.Record{Header: head("a", "b"), Data: []byte("NATS/1.0\r\nc: d\r\n\r\n")}, true},
		"key as attribute":    {&backend.Record{Key: "k", Header: head("ce-partitionkey", "k")}, true},
		"key escaped":         {&backend.Record{Key: "k 1", Header: head("ce-partitionkey", "k%201")}, true},
		"key looks escaped":   {&backend.Record{Key: "%20", Header: head("ce-partitionkey", "%20")}, true},
		"another key":         {&backend.Record{Key: "j", Header: head("ce-partitionkey", "k")}, true},
		"no key":              {&backend.Record{Header: head("Ce-PartitionKey", "k")}, true},
		"odd key":             {&backend.Record{Key: " \r\n\x00\xff%🐎 "}, true},
		"not ASCII":           {&backend.Record{Header: head("a", "\xff\x80 🐎 \x01\x7f \t.")}, true},
		"of the broker":       {&backend.Record{Header: head("Nats-Rollup", "all")}, false},
		"of the broker, case": {&backend.Record{Header: head("nATS-x", "all")}, false},
		"a status":            {&backend.Record{Header: head("Status", "503", "description", "x")}, false},
		"a key header":        {&backend.Record{Header: head("Sidestep-Key", "k")}, false},
		"white space":         {&backend.Record{Header: head("a", " b", "c", "d\t")}, false},
		"a line break":        {&backend.Record{Header: head("a", "b\r\nNats-Rollup: all")}, false},
		"a bare line feed":    {&backend.Record{Header: head("a", "b\nc")}, false},
		"a null character":    {&backend.Record{Header: head("a", "b\x00")}, false},
		"no token":            {&backend.Record{Header: head("a:b", "c", "d e", "f")}, false},
		"no name":             {&backend.Record{Header: head("", "c")}, false},
		"large headers":       {&backend.Record{Header: head("a", strings.Repeat("b", maxHeaders))}, false},
		"a large key":         {&backend.Record{Key: strings.Repeat("k", maxHeaders)}, false},
	} {
		for _, dedup := range []string{"", "nonce", " \r\nNats-Rollup: all%"} {
			test.record.Dedup = dedup
			got, bound := roundTrip(t, test.record)
			if !equalRecords(&got, test.record) {
				t.Errorf("%s: %.300q came back as %.300q", name, test.record, got)
			}
			if bound != test.bound {
				t.Errorf("%s: in the binding %v, want %v", name, bound, test.bound)
			}
		}
	}
}

func TestBindingDoesNotChangeAnyRecord(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		want := randomRecord(r)
		if got, _ := roundTrip(t, want); !equalRecords(&got, want) {
			t.Fatalf("a record with %d headers came back different", len(want.Header))
		}
	}
}

func TestEscapedIdsAreDistinct(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, id := range []string{"a b", "a%20b", "a\rb", "a\nb", "ab", "a b ", "\xff", "%FF"} {
		p, n := appendMessage(nil, "INC", &backend.Record{Dedup: id})
		if other, ok := seen[string(p[:n])]; ok {
			t.Errorf("%q and %q are the same to the broker", id, other)
		}
		seen[string(p[:n])] = id
		if got := percent.Decode(string(appendEscaped(nil, id))); got != id {
			t.Errorf("%q came back as %q", id, got)
		}
	}
}

// What others write may be anything; it must be read, and may not reach further
// than a record's contract allows.
func TestMessagesOfOthersAreRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		message string
		want    backend.Record
	}{
		"binary": {
			"NATS/1.0\r\nce-id:1\r\nCE-PartitionKey:  a%20b\r\nNats-Msg-Id: x\r\n\r\ndata",
			backend.Record{Key: "a b", Header: head("ce-id", "1", "CE-PartitionKey", "a%20b"), Data: []byte("data")},
		},
		"a header without a colon, or without a name": {
			"NATS/1.0\r\nwhat\r\n: x\r\na: b\r\n\r\n", backend.Record{Header: head("a", "b")},
		},
		"values that cannot be": {
			"NATS/1.0\r\na: x\ry\r\nb: \x00\r\nc: d\r\n\r\n", backend.Record{Header: head("c", "d")},
		},
		"lines that end without CR": {
			"NATS/1.0\r\na: b\nc: d\r\n\r\n", backend.Record{Header: head("a", "b", "c", "d")},
		},
		"no header":                   {"NATS/1.0\r\n\r\ndata", backend.Record{Data: []byte("data")}},
		"the broker's headers alone":  {"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\ndata", backend.Record{Data: []byte("data")}},
		"structured, with the header": {"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n{\"partitionkey\":\"k\"}", backend.Record{Key: "k", Data: []byte(`{"partitionkey":"k"}`)}},
	} {
		var got backend.Record
		if err := decodeMessage([]byte(test.message), true, &got); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !equalRecords(&got, &test.want) {
			t.Errorf("%s: read as %q, want %q", name, got, test.want)
		}
	}
	var got backend.Record
	if err := decodeMessage([]byte("NATS/1.0\r\na: b\r\n"), true, &got); !errors.Is(err, errMalformed) {
		t.Errorf("a header block without an end: %v, want errMalformed", err)
	}
	if err := decodeMessage(nil, false, &got); err != nil || len(got.Data) > 0 {
		t.Errorf("an empty message: %q, %v", got, err)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	add := func(r *backend.Record) {
		p, n := appendMessage(nil, "INC", r)
		f.Add(p, n > 0)
	}
	add(&backend.Record{})
	add(&backend.Record{Dedup: "d"})
	add(&backend.Record{Key: "k", Header: head("ce-id", "1", "ce-partitionkey", "k"), Data: []byte("{}")})
	f.Add([]byte("NATS/1.0\r\n\r\n"), true)
	f.Add([]byte("NATS/1.0\r\n:\r\nsidestep-key: %\r\nNats-x: y\r\n\r\n{"), true)
	f.Add([]byte(`{"partitionkey":"k"}`), false)
	f.Add([]byte("\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, p []byte, headed bool) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var r backend.Record
		err := decodeMessage(p, headed, &r)
		runtime.ReadMemStats(&after)
		// A line of one byte becomes an entry of 32. The rest is for other
		// goroutines of the fuzzing process.
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(64*len(p)+1<<20); got > most {
			t.Fatalf("%d bytes had %d allocated", len(p), got)
		}
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatalf("error %v, want errMalformed", err)
			}
			return
		}
		if again, _ := roundTrip(t, &r); !equalRecords(&r, &again) {
			t.Fatalf("%+v came back as %+v", r, again)
		}
	})
}

// client is another program on the broker, with nothing of ours.
func client(t *testing.T, s *Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func subjectOf(t *testing.T, b *Backend, log string) (stream, subject string) {
	t.Helper()
	// A cluster that has just lost a node may not answer at once.
	eventually(t, "catalog", func() error {
		e, err := b.catalog.read(ctxOf(t), log)
		if err == nil {
			stream, subject = b.names.shardStream(e.shard), e.subject
		}
		return err
	})
	return stream, subject
}

func TestOthersReadRecordsAsHeadersAndData(t *testing.T) {
	t.Parallel()
	s := startServer(t, ServerConfig{})
	b := connectTo(t, Config{Server: s})
	log := makeLog(t, b, false, "g")
	r := &backend.Record{
		Key: "k", Dedup: "nonce",
		Header: head("ce-id", "1", "ce-subject", "", "content-type", "a/b"),
		Data:   []byte("\x00\xff"),
	}
	if err := b.Publish(ctxOf(t), log, r); err != nil {
		t.Fatal(err)
	}
	stream, subject := subjectOf(t, b, log)
	js := client(t, s)
	str, err := js.Stream(ctxOf(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := str.GetLastMsgForSubject(ctxOf(t), subject)
	if err != nil {
		t.Fatal(err)
	}
	want := nats.Header{
		"ce-id": {"1"}, "ce-subject": {""}, "content-type": {"a/b"},
		"sidestep-key": {"k"}, "Nats-Msg-Id": m.Header["Nats-Msg-Id"],
	}
	if fmt.Sprint(m.Header) != fmt.Sprint(want) || len(want["Nats-Msg-Id"]) != 1 {
		t.Errorf("headers %q, want %q", m.Header, want)
	}
	if !bytes.Equal(m.Data, r.Data) {
		t.Errorf("data %q, want %q", m.Data, r.Data)
	}
}

func TestWhatOthersPublishIsDelivered(t *testing.T) {
	t.Parallel()
	s := startServer(t, ServerConfig{})
	b := connectTo(t, Config{Server: s})
	js := client(t, s)
	for _, ordered := range []bool{false, true} {
		log := makeLog(t, b, ordered, "g")
		_, subject := subjectOf(t, b, log)
		for _, m := range []*nats.Msg{
			{Header: nats.Header{"ce-id": {"1"}, "ce-partitionkey": {"k"}}, Data: []byte("one")},
			{Data: []byte(`{"partitionkey":"k"}`)},
			{},
			{Data: []byte("NATS/1.0\r\na: b\r\n\r\n")},
			{Header: nats.Header{"Nats-Msg-Id": {"x"}, "a": {"b"}}},
		} {
			m.Subject = subject
			if _, err := js.PublishMsg(ctxOf(t), m); err != nil {
				t.Fatal(err)
			}
		}
		sub := subscribe(t, b, log, "g", backend.Options{})
		one := receive(t, sub)
		if one.Key != "k" || len(one.Header) != 2 || string(one.Data) != "one" {
			t.Errorf("binary: key %q, header %q, data %q", one.Key, one.Header, one.Data)
		}
		for i, want := range []*backend.Record{
			{Key: "k", Data: []byte(`{"partitionkey":"k"}`)},
			{},
			{Data: []byte("NATS/1.0\r\na: b\r\n\r\n")},
			{Header: head("a", "b")},
		} {
			d := receive(t, sub)
			if !equalRecords(&d.Record, want) {
				t.Errorf("message %d: %q, want %q", i+1, d.Record, want)
			}
			ackAll(t, sub, d)
		}
		ackAll(t, sub, one)
		eventually(t, "records", settled(t, b, log, "g"))
	}
}

// An upgrade finds what the version before it stored: packed, with the id as the
// only header.
func TestRecordsFromBeforeTheBindingAreRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	var want []*backend.Record
	var log string
	func() {
		s, err := StartServer(ServerConfig{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer stopServer(t, s)
		b := connect(t, Config{Server: s})
		defer closeBackend(t, b)
		log = makeLog(t, b, true, "g")
		_, subject := subjectOf(t, b, log)
		js := client(t, s)
		for i := range 40 {
			rec := randomRecord(r)
			m := &nats.Msg{Subject: subject, Data: appendPacked(nil, rec)}
			if i%2 == 0 {
				m.Header = nats.Header{"Nats-Msg-Id": {fmt.Sprint("INC.", i)}}
			}
			if _, err := js.PublishMsg(ctxOf(t), m); err != nil {
				t.Fatal(err)
			}
			want = append(want, rec)
		}
	}()
	b := connectTo(t, Config{Server: startServer(t, ServerConfig{Dir: dir})})
	publish(t, b, log, "new")
	want = append(want, &backend.Record{Data: []byte("new")})
	sub := subscribe(t, b, log, "g", backend.Options{Window: 100, Buffer: 4 << 20})
	for i, w := range want {
		d := receive(t, sub)
		if !equalRecords(&d.Record, w) {
			t.Fatalf("record %d came back different", i)
		}
		ackAll(t, sub, d)
	}
	eventually(t, "records", settled(t, b, log, "g"))
}

func BenchmarkBinding(b *testing.B) {
	r := &backend.Record{Dedup: "AAAAAAAAAAAAAAAAAAAAAAAAAA", Data: make([]byte, 1024), Header: head(
		"ce-specversion", "1.0",
		"ce-id", "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
		"ce-source", "/backendtest",
		"ce-type", "dev.sidestep.benchmark",
		"content-type", "application/octet-stream",
		"ce-time", "2026-01-01T00:00:00Z",
		"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	)}
	p, n := appendMessage(nil, "INC", r)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, n = appendMessage(p[:0], "INC", r)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		var got backend.Record
		for b.Loop() {
			if err := decodeMessage(p, true, &got); err != nil {
				b.Fatal(err)
			}
		}
	})
	packed := appendPacked(nil, r)
	b.Run("encode packed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			packed = appendPacked(packed[:0], r)
		}
	})
	b.Run("decode packed", func(b *testing.B) {
		b.ReportAllocs()
		var got backend.Record
		for b.Loop() {
			if err := decodePacked(packed, &got); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode, the library's", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := nats.Msg{Header: make(nats.Header, len(r.Header)), Data: r.Data}
			for i := range r.Header {
				m.Header[r.Header[i].Name] = []string{r.Header[i].Value}
			}
			if m.Size() == 0 {
				b.Fatal("nothing")
			}
		}
	})
	b.Run("decode, the library's", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := nats.DecodeHeadersMsg(p[:n]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
