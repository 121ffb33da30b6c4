package natsbackend

import (
	"strings"
	"testing"
	"time"
)

func TestParseReply(t *testing.T) {
	t.Parallel()
	want := metadata{sequence: 7, delivery: 9, delivered: 2, stored: time.Unix(0, 1700000000000000001)}
	const numbers = ".2.7.9.1700000000000000001.3"
	for name, subject := range map[string]string{
		"short form":                       "$JS.ACK.sidestep-00.CONSUMER" + numbers,
		"with domain and account":          "$JS.ACK.hub.ACCOUNT.sidestep-00.CONSUMER" + numbers,
		"without a domain":                 "$JS.ACK._.ACCOUNT.sidestep-00.CONSUMER" + numbers,
		"with a random token as the last":  "$JS.ACK._.ACCOUNT.sidestep-00.CONSUMER" + numbers + ".rAnD",
		"names that look like the numbers": "$JS.ACK.1.2" + numbers,
	} {
		got, ok := parseReply(subject)
		if !ok || got != want {
			t.Errorf("%s: %q gave %+v, %v; want %+v", name, subject, got, ok, want)
		}
	}
}

func TestParseReplyDoesNotTakeWhatIsNoAckSubject(t *testing.T) {
	t.Parallel()
	for name, subject := range map[string]string{
		"empty":                 "",
		"another subject":       "_INBOX.a.b",
		"nothing after prefix":  "$JS.ACK.",
		"numbers missing":       "$JS.ACK.stream.consumer.1.2",
		"too few for long form": "$JS.ACK.a.b.c.d.e.f.g.h.i",
		"not a number":          "$JS.ACK.stream.consumer.one.2.3.4.5",
		"negative":              "$JS.ACK.stream.consumer.-1.2.3.4.5",
		"too large a number":    "$JS.ACK.stream.consumer.1.99999999999999999999.3.4.5",
		"empty number":          "$JS.ACK.stream.consumer.1..3.4.5",
		"lower case prefix":     "$js.ack.stream.consumer.1.2.3.4.5",
	} {
		if got, ok := parseReply(subject); ok {
			t.Errorf("%s: %q gave %+v", name, subject, got)
		}
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add("$JS.ACK.s.c.1.2.3.4.5")
	f.Add("$JS.ACK.d.a.s.c.1.2.3.4.5.r")
	f.Add("$JS.ACK.........")
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := parseReply(s)
		if !ok {
			return
		}
		if !strings.HasPrefix(s, "$JS.ACK.") {
			t.Fatalf("%q was taken for an ack subject: %+v", s, m)
		}
		// What counts is in it, as it was written.
		if m.delivered > 0 && !strings.ContainsAny(s, "123456789") {
			t.Fatalf("%q gave %+v", s, m)
		}
	})
}
