package event

import (
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// typical is what a producer in Go sends: nine headers and 1 KiB of JSON.
func typical(tb testing.TB) (*Event, []string, []byte) {
	tb.Helper()
	body := make([]byte, 1024)
	for i := range body {
		body[i] = '1'
	}
	kv := []string{
		"Ce-Specversion", "1.0", "Ce-Id", "9f2c7a52-4d5c-4c34-9c07-2bd0a8a8a3c1", "Ce-Source", "/orders/eu-west",
		"Ce-Type", "com.example.order.created", "Ce-Time", "2026-01-02T03:04:05.678Z", "Ce-Subject", "order/42",
		"Ce-Partitionkey", "customer-7", "Content-Type", "application/json",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"User-Agent", "Go-http-client/1.1", "Accept-Encoding", "gzip",
	}
	return mustDecode(tb, pairs(kv...), string(body)), kv, body
}

// The bounds are generous: they are to catch a change of kind, as one
// allocation for each header, and not to be tuned.
func TestAllocationsAreBounded(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e, kv, body := typical(t)
	header, slice := pairs(kv...), fields(kv...)
	record := ToRecord(e)
	document := AppendStructured(nil, e)
	buf := make([]byte, 0, 2*len(document))
	tests := []struct {
		name string
		most float64
		run  func()
	}{
		{"FromHTTP, binary", 14, func() { _, _ = FromHTTP(header, body) }},
		{"FromFields, binary", 6, func() { _, _ = FromFields(slice, body) }},
		{"FromHTTP, structured", 45, func() { _, _ = FromHTTP(structured(), document) }},
		{"ToRecord", 4, func() { _ = ToRecord(e) }},
		{"RecordSize", 2, func() { _ = RecordSize(e) }},
		{"FromRecord", 4, func() { _, _ = FromRecord(&record) }},
		{"AppendHTTPHeader", 1, func() { AppendHTTPHeader(func(string, string) {}, e) }},
		{"AppendStructured", 4, func() { _ = AppendStructured(buf, e) }},
	}
	for _, tt := range tests {
		got := testing.AllocsPerRun(100, tt.run)
		t.Logf("%s: %v allocations", tt.name, got)
		if got > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.most)
		}
	}
}

func BenchmarkFromHTTPBinary(b *testing.B) {
	_, kv, body := typical(b)
	header := pairs(kv...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromHTTP(header, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFromHTTPStructured(b *testing.B) {
	e, _, _ := typical(b)
	document := AppendStructured(nil, e)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromHTTP(structured(), document); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecordRoundTrip(b *testing.B) {
	e, _, _ := typical(b)
	b.ReportAllocs()
	var r backend.Record
	for b.Loop() {
		r = ToRecord(e)
		if _, err := FromRecord(&r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendHTTPHeader(b *testing.B) {
	e, _, _ := typical(b)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		AppendHTTPHeader(func(name, value string) { n += len(name) + len(value) }, e)
	}
}

func BenchmarkAppendStructured(b *testing.B) {
	e, _, _ := typical(b)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendStructured(buf[:0], e)
	}
}
