package wire

import (
	"bytes"
	"reflect"
	"testing"
)

// What is read as a slip is written as one that is read the same.
func FuzzSlip(f *testing.F) {
	for _, s := range []*Slip{aSlip(), {Pod: "p", Discard: true, Steps: []Step{{UID: "u", Port: 1, Path: "/"}}}} {
		s.Expires = epoch
		f.Add(string(s.append(nil)))
	}
	f.Add("")
	f.Add("\x01p\x00\x00\x00\x40")
	f.Fuzz(func(t *testing.T, b string) {
		s, err := parseSlip(b)
		if err != nil {
			return
		}
		again, err := parseSlip(string(s.append(nil)))
		if err != nil {
			t.Fatalf("%+v is not read again: %v", s, err)
		}
		if !reflect.DeepEqual(s, again) {
			t.Fatalf("got %+v\nwant %+v", again, s)
		}
	})
}

// No value makes Verify accept what was not signed.
func FuzzVerify(f *testing.F) {
	now := epoch
	good := sign(f, signerAt(now, "key"), aSlip())
	v := verifierAt(f, &now, "other")
	f.Add(good)
	f.Add("1.." + good[len(good)-86:])
	f.Add("1.A.A")
	f.Fuzz(func(t *testing.T, header string) {
		if s, err := v.Verify(header); err == nil {
			t.Fatalf("%q was signed by nobody: %+v", header, s)
		}
	})
}

func FuzzOutcome(f *testing.F) {
	for _, o := range outcomes {
		f.Add(o.text)
	}
	f.Add("1;completed; event;;x;=;a=b=c")
	f.Fuzz(func(t *testing.T, value string) {
		var o, again Outcome
		if ParseOutcome(value, &o) != nil {
			return
		}
		text := o.Append(nil)
		if len(text) > MaxOutcomeBytes {
			t.Fatalf("%d bytes, at most %d are taken", len(text), MaxOutcomeBytes)
		}
		if err := ParseOutcome(string(text), &again); err != nil {
			t.Fatalf("%q, from %q: %v", text, value, err)
		}
		if second := again.Append(nil); !bytes.Equal(text, second) {
			t.Fatalf("%q became %q", text, second)
		}
	})
}

func FuzzLimits(f *testing.F) {
	f.Add("1;start=63;steps=5;room=9223372036854775807;spill-after=1500;budget=1000000")
	f.Add("1")
	f.Fuzz(func(t *testing.T, value string) {
		l, err := ParseLimits(value)
		if err != nil {
			return
		}
		if again, err := ParseLimits(string(l.Append(nil))); err != nil || again != l {
			t.Fatalf("%+v became %+v, %v", l, again, err)
		}
	})
}

func FuzzEvent(f *testing.F) {
	f.Add([]byte("\x04\x0ece-specversion\x031.0\x05ce-id\x011\x09ce-source\x01s\x07ce-type\x01tdata"))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvent(b)
		if err != nil {
			return
		}
		if len(e.Attributes) == 0 {
			e.Attributes = nil
		}
		again, err := ParseEvent(AppendEvent(nil, e))
		if err != nil {
			t.Fatalf("%+v is not read again: %v", e, err)
		}
		if len(again.Attributes) == 0 {
			again.Attributes = nil
		}
		if again.ID != e.ID || again.Source != e.Source || again.Type != e.Type || !reflect.DeepEqual(again.Attributes, e.Attributes) {
			t.Fatalf("got %+v\nwant %+v", again, e)
		}
	})
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte(`{"pod":"p","minVersion":1,"version":1,"ports":[9101]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHandshake(b); err == nil && h.Pod == "" {
			t.Fatal("no pod")
		}
	})
}
