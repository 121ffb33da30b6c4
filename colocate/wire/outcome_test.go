package wire

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
)

var outcomes = []struct {
	text string
	Outcome
}{
	{"1;completed", Outcome{Kind: Completed}},
	{
		"1;completed;event;entering=212;ran=0+310,12+95",
		Outcome{Kind: Completed, Event: true, Entering: 212, Ran: []Timing{{0, 310 * time.Microsecond}, {12 * time.Microsecond, 95 * time.Microsecond}}},
	},
	{
		"1;spilled;event;step=1;reason=status;status=503;after=2000000;took=0+95;body=b29wcw;error=bm8;ran=0+310",
		Outcome{
			Kind: Spilled, Event: true, Step: 1, Reason: Status,
			Seen: Seen{Timing: Timing{Took: 95 * time.Microsecond}, Status: 503, RetryAfter: 2 * time.Second, Body: []byte("oops"), Error: "no"},
			Ran:  []Timing{{0, 310 * time.Microsecond}},
		},
	},
	{"1;spilled;step=0;reason=not-mine", Outcome{Kind: Spilled, Reason: NotMine}},
	{"1;spilled;step=63;reason=checkpoint", Outcome{Kind: Spilled, Step: 63, Reason: Checkpoint}},
	{"1;busy;reason=overload;after=1000000", Outcome{Kind: Busy, Reason: Overload, Seen: Seen{RetryAfter: time.Second}}},
}

func TestAnOutcomeArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	var got Outcome
	for _, tt := range outcomes {
		if text := string(tt.Append(nil)); text != tt.text {
			t.Errorf("sent %s\nwant %s", text, tt.text)
		}
		if err := ParseOutcome(tt.text, &got); err != nil {
			t.Errorf("%s: %v", tt.text, err)
		}
		if len(got.Ran) == 0 {
			got.Ran = nil
		}
		if !reflect.DeepEqual(got, tt.Outcome) {
			t.Errorf("%s: got %+v\nwant %+v", tt.text, got, tt.Outcome)
		}
	}
}

func TestWhatIsNoOutcomeIsAnError(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"", "1", "1;", "1;done", "0;completed", "2;completed", "x;completed", "1;unknown",
		"1;spilled", "1;spilled;reason=mood", "1;spilled;reason=", "1;spilled;step=64;reason=status", "1;spilled;step=-1;reason=status",
		"1;completed;entering=5", "1;completed;event;entering=65537", "1;completed;ran=", "1;completed;ran=5", "1;completed;ran=1+1;ran=1+1",
		"1;completed;ran=" + strings.TrimSuffix(strings.Repeat("1+1,", MaxSteps+1), ","),
		"1;completed;ran=1+99999999999999999999",
		"1;spilled;reason=status;status=1000", "1;spilled;reason=status;body=*", "1;spilled;reason=status;body=" + strings.Repeat("A", 2000),
		"1;busy;event", "1;completed;x=" + strings.Repeat("A", MaxOutcomeBytes),
	} {
		var o Outcome
		if err := ParseOutcome(value, &o); !errors.Is(err, ErrOutcome) {
			t.Errorf("%.60q: %v, %+v", value, err, o)
		}
	}
}

func TestFieldsOfALaterVersionArePassedOver(t *testing.T) {
	t.Parallel()
	var o Outcome
	if err := ParseOutcome("1;completed; event;mood=good;new", &o); err != nil || !o.Event {
		t.Errorf("%+v, %v", o, err)
	}
	l, err := ParseLimits("1;start=1;mood=good")
	if err != nil || l.Start != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestWhatWasSeenIsCutToItsBounds(t *testing.T) {
	t.Parallel()
	o := Outcome{Kind: Spilled, Reason: Status, Seen: Seen{
		Status: 500, Body: []byte(strings.Repeat("b", 5000)), Error: strings.Repeat("e", 5000),
	}}
	for range 2 * MaxSteps {
		o.Ran = append(o.Ran, Timing{MaxTimeout + 1, -1})
	}
	text := string(o.Append(nil))
	if len(text) > MaxOutcomeBytes {
		t.Fatalf("%d bytes, at most %d are taken", len(text), MaxOutcomeBytes)
	}
	var got Outcome
	if err := ParseOutcome(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Seen.Body) != MaxSeenBody || len(got.Seen.Error) != MaxSeenError || len(got.Ran) != MaxSteps {
		t.Errorf("%d, %d, %d", len(got.Seen.Body), len(got.Seen.Error), len(got.Ran))
	}
	if got.Ran[0] != (Timing{MaxTimeout, 0}) {
		t.Errorf("timing %v", got.Ran[0])
	}
}

// Whether an attempt is made again must not depend on where it was made.
func TestAnAttemptCountsAsIfItHadBeenMadeByTheDispatcher(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		Outcome
		is    error
		retry bool
	}{
		{Outcome{Reason: Status, Seen: Seen{Status: 503, RetryAfter: time.Second, Body: []byte("x")}}, egress.ErrStatus, true},
		{Outcome{Reason: Status, Seen: Seen{Status: 400}}, egress.ErrStatus, false},
		{Outcome{Reason: Status, Seen: Seen{Status: 200, Error: "no id"}}, egress.ErrReply, false},
		{Outcome{Reason: Timeout, Seen: Seen{Error: "i/o timeout"}}, ErrTimeout, true},
		{Outcome{Reason: Unreachable, Seen: Seen{Error: "refused"}}, nil, true},
	} {
		r := tt.Result()
		if r.Err == nil || (tt.is != nil && !errors.Is(r.Err, tt.is)) || egress.Retryable(r) != tt.retry {
			t.Errorf("%v: %+v", tt.Reason, r)
		}
		if r.Status != tt.Seen.Status || r.RetryAfter != tt.Seen.RetryAfter || string(r.Body) != string(tt.Seen.Body) {
			t.Errorf("%v: %+v", tt.Reason, r)
		}
	}
}

func TestLimitsArriveAsTheyWereSent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		Limits
	}{
		{"1", Limits{SpillAfter: NoLimit, Budget: NoLimit}},
		{"1;spill-after=0;budget=0", Limits{}},
		{"1;start=63;steps=64;room=1048576;spill-after=1500;budget=1000000", Limits{63, 64, 1 << 20, 1500 * time.Microsecond, 0, time.Second, false}},
		{"1;start=1;spill-after=0;budget=0;wait=30000000;traced", Limits{Start: 1, Wait: 30 * time.Second, Traced: true}},
	} {
		if text := string(tt.Append(nil)); text != tt.text {
			t.Errorf("sent %s, want %s", text, tt.text)
		}
		if got, err := ParseLimits(tt.text); err != nil || got != tt.Limits {
			t.Errorf("%s: %+v, %v", tt.text, got, err)
		}
	}
	if l, err := ParseLimits(""); err != nil || l != (Limits{SpillAfter: NoLimit, Budget: NoLimit}) {
		t.Errorf("none: %+v, %v", l, err)
	}
	for _, value := range []string{"x", "2;start=1", "1;start=64", "1;steps=65", "1;room=99999999999999999999", "1;start=-1", "1;budget=", "1;budget=1.5", "1;spill-after=9999999999999999999", "1;x=" + strings.Repeat("y", 300)} {
		if l, err := ParseLimits(value); !errors.Is(err, ErrLimits) {
			t.Errorf("%q: %+v, %v", value, l, err)
		}
	}
}

func TestTheHotPathDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	o, buf := outcomes[1].Outcome, make([]byte, 0, 512)
	got := Outcome{Ran: make([]Timing, 0, 8)}
	l := Limits{1, 2, 3, time.Second, time.Second, time.Second, true}
	if n := testing.AllocsPerRun(100, func() {
		buf = o.Append(buf[:0])
		if err := ParseOutcome(outcomes[1].text, &got); err != nil {
			t.Fatal(err)
		}
		buf = l.Append(buf[:0])
		if _, err := ParseLimits("1;start=1;steps=2;room=3;spill-after=5;budget=7"); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
