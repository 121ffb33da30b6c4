package backendtest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var byteProperties = []property{
	{"no byte of a record is changed", noByteChanged},
	{"a record of the maximum size is not refused", maximumNotRefused},
	{"a record above the maximum size is not stored", tooLargeNotStored},
	{"headers that brokers use do nothing", brokerHeadersInert},
	{"Publish neither keeps nor changes its record", publishKeepsNothing},
	{"what a member writes into a delivery reaches no other", deliveriesApart},
	{"the name of a record does not change", deliveryNames},
}

type header = []backend.Header

// oddRecords are legal, each in its own way.
func oddRecords() map[string]*backend.Record {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	many := make(header, 200)
	for i := range many {
		many[i] = backend.Header{Name: "x-" + strings.Repeat("n", i%20), Value: strings.Repeat("v", i)}
	}
	return map[string]*backend.Record{
		"nothing at all":    {},
		"empty data":        {Header: header{{Name: "ce-id", Value: "1"}}, Data: []byte{}},
		"every byte":        {Data: all},
		"not UTF-8":         {Data: []byte("\xff\xfe\xc3\x28")},
		"looks like header": {Data: []byte("NATS/1.0\r\na: b\r\n\r\nPUB x 1\r\n")},
		"no data":           {Key: "k", Header: header{{Name: "a", Value: "b"}}},
		"empty value":       {Header: header{{Name: "a"}, {Name: "b", Value: ""}}},
		"names keep their case and order": {Header: header{
			{Name: "X-Repeated", Value: "1"},
			{Name: "x-repeated", Value: "2"},
			{Name: "other", Value: "3"},
			{Name: "X-REPEATED", Value: "4"},
			{Name: "X-Repeated", Value: "1"},
			{Name: "x-repeated", Value: ""},
		}},
		"token names": {Header: header{{Name: "!#$%&'*+-.^_`|~09azAZ", Value: "v"}, {Name: "~", Value: "v"}, {Name: "0", Value: "v"}}},
		"odd values": {Header: header{
			{Name: "a", Value: "two  spaces\tand a tab"},
			{Name: "b", Value: `"quoted", : ; = \ %0A %`},
			{Name: "c", Value: "žluťoučký 🐎"},
			{Name: "d", Value: "\xff\x80 not UTF-8"},
			{Name: "e", Value: "\x01\x1b\x7f"},
			{Name: "f", Value: ":"},
			{Name: "g", Value: strings.Repeat("long", 5000)},
		}},
		"many headers": {Header: many, Data: []byte("d")},
		"odd key":      {Key: " a.b/*>\r\n\x00\xff🐎 ", Data: []byte("d")},
		"long key":     {Key: strings.Repeat("key ", 1000), Data: []byte("d")},
		"odd dedup":    {Dedup: " a.b/*>\r\n\x00\xff🐎 ", Data: []byte("d")},
	}
}

func noByteChanged(f *fixture) {
	b := f.connect()
	for _, ordered := range []bool{false, true} {
		log := f.log(b, ordered, "g")
		sub := f.subscribe(b, log, "g")
		for name, r := range oddRecords() {
			f.publishRecord(b, log, r)
			d := f.receive(sub) // the only one: what came before is acked
			wantRecord(f, name, d, r)
			f.ack(sub, d)
		}
	}
}

func wantRecord(t testing.TB, what string, d *backend.Delivery, want *backend.Record) {
	t.Helper()
	if d.Key != want.Key {
		t.Errorf("%s: key %.100q, want %.100q", what, d.Key, want.Key)
	}
	if !slices.Equal(d.Header, want.Header) {
		t.Errorf("%s: header %.300q, want %.300q", what, d.Header, want.Header)
	}
	if !bytes.Equal(d.Data, want.Data) {
		t.Errorf("%s: %d bytes of data %.100q, want %d: %.100q", what, len(d.Data), d.Data, len(want.Data), want.Data)
	}
}

// sized are records of exactly n bytes, made up of different things.
func sized(n int) map[string]*backend.Record {
	small := header{}
	for rest := n; rest > 0; {
		size := min(rest, 1000)
		if rest-size < 5 {
			size = rest // an entry needs at least 5 bytes
		}
		small = append(small, backend.Header{Name: "h", Value: strings.Repeat("v", size-5)})
		rest -= size
	}
	return map[string]*backend.Record{
		"data":         {Data: bytes.Repeat([]byte("d"), n)},
		"one header":   {Header: header{{Name: "h", Value: strings.Repeat("v", n-5)}}},
		"many headers": {Header: small},
		"key":          {Key: strings.Repeat("k", n)},
		"all of them": {
			Key: strings.Repeat("k", n/4), Header: header{{Name: "h", Value: strings.Repeat("v", n/4-5)}},
			Data: make([]byte, n-2*(n/4)),
		},
	}
}

func maximumNotRefused(f *fixture) {
	b := f.connect()
	n := b.Limits().MaxRecordBytes
	log := f.log(b, false, "g")
	sub := f.subscribe(b, log, "g")
	for name, r := range sized(n) {
		if r.Size() != n {
			f.Fatalf("%s: the suite made a record of %d bytes, not %d", name, r.Size(), n)
		}
		if err := b.Publish(f.ctx(), log, r); err != nil {
			f.Errorf("Publish of %d bytes of %s: %v", n, name, err)
			continue
		}
		d := f.receive(sub)
		wantRecord(f, name, d, r)
		f.ack(sub, d)
	}
}

func tooLargeNotStored(f *fixture) {
	b := f.connect()
	n := b.Limits().MaxRecordBytes
	log := f.log(b, false, "g")
	sub := f.subscribe(b, log, "g")
	for name, r := range sized(n + 1) {
		err := b.Publish(f.ctx(), log, r)
		wantError(f, "Publish of one byte too many of "+name, err, backend.ErrTooLarge)
		wantNotError(f, "Publish of one byte too many of "+name, err, backend.ErrUnavailable)
	}
	wantError(f, "Publish of twice the maximum", b.Publish(f.ctx(), log, sized(2 * n)["data"]), backend.ErrTooLarge)
	f.fence(b, log, sub)
}

// brokerHeadersInert: what a client writes must not steer the broker.
func brokerHeadersInert(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	hostile := header{
		{Name: "Nats-Msg-Id", Value: "same"},
		{Name: "Nats-Rollup", Value: "all"},
		{Name: "Nats-Expected-Last-Sequence", Value: "4711"},
		{Name: "Nats-Expected-Stream", Value: "none"},
		{Name: "Nats-TTL", Value: "1s"},
		{Name: "Nats-Schedule", Value: "@every 1s"},
		{Name: "Status", Value: "503"},
		{Name: "Content-Length", Value: "1"},
		{Name: "sidestep-key", Value: "k"},
	}
	f.publish(b, log, "first")
	for _, h := range hostile {
		for range 2 {
			f.publishRecord(b, log, &backend.Record{Header: header{h}, Data: []byte(h.Name)})
		}
	}
	sub := f.subscribe(b, log, "g")
	got := make(map[string]int)
	for _, d := range f.receiveN(sub, 1+2*len(hostile)) {
		got[idOf(d)]++
		f.ack(sub, d)
	}
	for _, h := range hostile {
		if got[h.Name] != 2 {
			f.Errorf("two records with header %s: %d arrived", h.Name, got[h.Name])
		}
	}
	f.fence(b, log, sub)
}

func publishKeepsNothing(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g")
	fresh := func() *backend.Record {
		return &backend.Record{Key: "k", Dedup: newName(), Header: header{{Name: "A", Value: "1"}}, Data: []byte("data")}
	}
	r := fresh()
	dedup := r.Dedup
	f.publishRecord(b, log, r)
	wantRecord(f, "after Publish", &backend.Delivery{Record: *r}, fresh())
	if r.Dedup != dedup {
		f.Errorf("Publish changed Dedup to %q", r.Dedup)
	}
	copy(r.Data, "XXXX")
	r.Header[0] = backend.Header{Name: "X", Value: "X"}
	r.Key = "X"
	wantRecord(f, "received", f.receive(f.subscribe(b, log, "g")), fresh())
}

func deliveriesApart(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g1", "g2")
	fresh := func() *backend.Record {
		return &backend.Record{Header: header{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}, {Name: "C", Value: "3"}}, Data: []byte("data")}
	}
	f.publishRecord(b, log, fresh())
	sub := f.subscribe(b, log, "g1")
	first := f.receive(sub)
	copy(first.Data, "XXXX")
	first.Header[0].Value = "X"
	first.Header = append(first.Header, backend.Header{Name: "D", Value: "mine"})
	other := f.receive(f.subscribe(b, log, "g2"))
	wantRecord(f, "the other group's", other, fresh())
	other.Header = append(other.Header, backend.Header{Name: "D", Value: "other"})
	if first.Header[3].Value != "mine" {
		f.Error("two deliveries share the room behind their headers")
	}
	f.closeSub(sub)
	wantRecord(f, "redelivered", f.receive(f.subscribe(b, log, "g1")), fresh())
}

func deliveryNames(f *fixture) {
	b := f.connect()
	log := newName()
	incarnation := f.ensureLog(b, backend.Log{Name: log})
	f.ensureGroups(b, log, "g1", "g2")
	start := time.Now()
	f.publish(b, log, "1", "2", "3")
	type name struct {
		partition int32
		offset    uint64
	}
	names := make(map[name]string)
	byID := make(map[string]*backend.Delivery)
	sub := f.subscribe(b, log, "g1")
	for _, d := range f.receiveN(sub, 3) {
		n := name{d.Partition, d.Offset}
		if names[n] != "" {
			f.Errorf("records %s and %s are both named %v", names[n], idOf(d), n)
		}
		names[n] = idOf(d)
		byID[idOf(d)] = d
		if d.Incarnation != incarnation {
			f.Errorf("incarnation %q, want %q", d.Incarnation, incarnation)
		}
		// The broker's clock may differ from ours.
		if d.Stored.Before(start.Add(-time.Hour)) || d.Stored.After(time.Now().Add(time.Hour)) {
			f.Errorf("stored at %v", d.Stored)
		}
	}
	f.closeSub(sub)
	again := f.receiveN(f.subscribe(b, log, "g1"), 3)
	for _, d := range again {
		if !d.Redelivered {
			f.Errorf("record %s came back without Redelivered", idOf(d))
		}
	}
	for _, d := range append(again, f.receiveN(f.subscribe(f.connect(), log, "g2"), 3)...) {
		if old := byID[idOf(d)]; d.Partition != old.Partition || d.Offset != old.Offset ||
			d.Incarnation != old.Incarnation || !d.Stored.Equal(old.Stored) {
			f.Errorf("record %s was %s/%d/%d stored %v, is now %s/%d/%d stored %v", idOf(d),
				old.Incarnation, old.Partition, old.Offset, old.Stored, d.Incarnation, d.Partition, d.Offset, d.Stored)
		}
	}
}
