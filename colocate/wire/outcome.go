package wire

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
)

// Kind of an Outcome.
type Kind uint8

// The kinds of outcomes.
const (
	// Completed: the last step has answered, or one that answered with no event.
	Completed Kind = iota + 1
	// Spilled: the event entering a step comes back from before it.
	Spilled
	// Busy: nothing was done, as there is no room. Always a 503.
	Busy
)

var kinds = [...]string{Completed: "completed", Spilled: "spilled", Busy: "busy"}

func (k Kind) String() string { return name(kinds[:], int(k)) }

// Reason of a spill.
type Reason uint8

// The reasons of spills.
const (
	// Overload: no place at the step within Limits.SpillAfter, or the pod is
	// being stopped.
	Overload Reason = iota + 1
	// Status: the step answered with a status that is no success, or with an
	// event that is none.
	Status
	// Timeout: the step did not answer within its timeout.
	Timeout
	// Unreachable: no connection, or one that broke before the answer's end.
	Unreachable
	// Checkpoint: Limits.Budget is used up.
	Checkpoint
	// TooLarge: the event entering Step is beyond Limits.Room, or the sidecar has
	// no room for that event, for the step's answer, or for the second event that
	// Slip.Entering asks for. The step may have run; it is not to blame. The next
	// attempt at it should not go through a sidecar.
	TooLarge
	// NotMine: the slip is not for this pod, or not good. Nothing was done.
	NotMine
)

var reasons = [...]string{
	Overload: "overload", Status: "status", Timeout: "timeout", Unreachable: "unreachable",
	Checkpoint: "checkpoint", TooLarge: "too-large", NotMine: "not-mine",
}

func (r Reason) String() string { return name(reasons[:], int(r)) }

func name(names []string, i int) string {
	if i > 0 && i < len(names) {
		return names[i]
	}
	return "unknown"
}

// Attempted tells whether a spill for this reason counts as an attempt at the
// step.
func (r Reason) Attempted() bool { return r == Status || r == Timeout || r == Unreachable }

// Outcome is what became of a chain.
type Outcome struct {
	Kind Kind
	// Event: the answer carries an event, the final one or the one entering
	// Step. A Spilled without one means the event that the request had.
	Event bool
	// Entering is how many bytes of the body are the event that entered the
	// last step, before the data of the final one; 0 for none.
	Entering int

	// Step is the index in the slip of the step that the event enters, if
	// Spilled.
	Step   int
	Reason Reason
	Seen   Seen

	// Ran are the steps that answered, from Limits.Start on.
	Ran []Timing
}

// Timing of a step, to the microsecond.
type Timing struct {
	// Wait for a place, and then the call.
	Wait, Took time.Duration
}

// Seen is what a sidecar saw of a failed attempt.
type Seen struct {
	// Timing of the attempt.
	Timing
	// Status of the answer, 0 if there was none.
	Status int
	// RetryAfter, to the microsecond, is what a 429 or 503 asked for.
	RetryAfter time.Duration
	// Body is the beginning of a failing answer's body, at most MaxSeenBody
	// bytes.
	Body []byte
	// Error is for people; at most MaxSeenError bytes, the rest is cut off.
	Error string
}

// Bounds of Seen, in bytes.
const (
	MaxSeenBody  = egress.MaxErrorBody
	MaxSeenError = 512
)

// ErrTimeout is wrapped by Outcome.Result where the step's timeout has passed.
var ErrTimeout = errors.New("no answer within its timeout")

// Result is the attempt as egress.Client would have told it: what is retried, and
// what a dead letter says, follows from it. Attempts is left 0. It is of use only
// if Reason.Attempted.
func (o *Outcome) Result() egress.Result {
	r := egress.Result{Status: o.Seen.Status, Body: o.Seen.Body, RetryAfter: o.Seen.RetryAfter}
	cause := errors.New(o.Seen.Error)
	switch {
	case o.Seen.Status >= 200 && o.Seen.Status <= 299:
		r.Err = fmt.Errorf("%w: %w", egress.ErrReply, cause)
	case o.Seen.Status != 0:
		r.Err = fmt.Errorf("%w: status %d", egress.ErrStatus, o.Seen.Status)
	case o.Reason == Timeout:
		r.Err = fmt.Errorf("%w: %w", ErrTimeout, cause)
	default:
		r.Err = cause
	}
	return r
}

// Append appends the value of the outcome header. It allocates only to grow dst.
//
//	1;completed;event;entering=212;ran=0+310,12+95
//	1;spilled;event;step=1;reason=status;status=503;after=2000000;took=0+95;body=b29wcw;ran=0+310
//	1;busy;reason=overload
func (o *Outcome) Append(dst []byte) []byte {
	num := func(name string, v int) {
		dst = strconv.AppendInt(append(append(append(dst, ';'), name...), '='), int64(v), 10)
	}
	dst = append(strconv.AppendInt(dst, Version, 10), ';')
	dst = append(dst, o.Kind.String()...)
	if o.Event {
		dst = append(dst, ";event"...)
	}
	if o.Entering > 0 {
		num("entering", o.Entering)
	}
	if o.Kind == Spilled {
		num("step", o.Step)
	}
	if o.Reason != 0 {
		dst = append(append(dst, ";reason="...), o.Reason.String()...)
	}
	dst = o.Seen.append(dst)
	for i, t := range o.Ran[:min(len(o.Ran), MaxSteps)] {
		if i == 0 {
			dst = append(dst, ";ran="...)
		} else {
			dst = append(dst, ',')
		}
		dst = t.append(dst)
	}
	return dst
}

func (s *Seen) append(dst []byte) []byte {
	if s.Status > 0 {
		dst = strconv.AppendInt(append(dst, ";status="...), int64(s.Status), 10)
	}
	if s.RetryAfter > 0 {
		dst = appendMicros(append(dst, ";after="...), s.RetryAfter)
	}
	if s.Timing != (Timing{}) {
		dst = s.Timing.append(append(dst, ";took="...))
	}
	if len(s.Body) > 0 {
		dst = encoding.AppendEncode(append(dst, ";body="...), s.Body[:min(len(s.Body), MaxSeenBody)])
	}
	if s.Error != "" {
		cut := s.Error[:min(len(s.Error), MaxSeenError)]
		dst = appendBase64(append(dst, ";error="...), cut)
	}
	return dst
}

// appendBase64 is encoding.AppendEncode for a string.
func appendBase64(dst []byte, s string) []byte {
	var chunk [96]byte // a multiple of 3: no padding in the middle
	for len(s) > 0 {
		n := copy(chunk[:], s)
		dst = encoding.AppendEncode(dst, chunk[:n])
		s = s[n:]
	}
	return dst
}

func (t Timing) append(dst []byte) []byte {
	return appendMicros(append(appendMicros(dst, t.Wait), '+'), t.Took)
}

// ErrOutcome is wrapped by the errors of ParseOutcome. Who answers so is no
// sidecar that can be spoken with.
var ErrOutcome = errors.New("invalid outcome")

// ParseOutcome reads the value of the outcome header into o, whose Ran it reuses.
// What o holds afterwards is not a part of value. It does not allocate for a
// chain that completed, if Ran has room. Where it fails o is not to be used.
func ParseOutcome(value string, o *Outcome) error {
	*o = Outcome{Ran: o.Ran[:0]}
	if len(value) > MaxOutcomeBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are taken", ErrOutcome, len(value), MaxOutcomeBytes)
	}
	rest, _, err := cutVersion(value, ";")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOutcome, err)
	}
	kind, rest, _ := strings.Cut(rest, ";")
	k := slices.Index(kinds[:], kind)
	if k <= 0 {
		return fmt.Errorf("%w: kind %.32q", ErrOutcome, kind)
	}
	o.Kind = Kind(k)
	for name, v := range fields(rest) {
		if !o.set(name, v) {
			return fmt.Errorf("%w: %s=%.32q", ErrOutcome, name, v)
		}
	}
	switch {
	case o.Kind == Spilled && o.Reason == 0:
		return fmt.Errorf("%w: a spill without a reason", ErrOutcome)
	case o.Entering > 0 && !(o.Kind == Completed && o.Event):
		return fmt.Errorf("%w: a second event without a final one", ErrOutcome)
	case o.Kind == Busy && o.Event:
		return fmt.Errorf("%w: busy, with an event", ErrOutcome)
	}
	return nil
}

func (o *Outcome) set(name, v string) (ok bool) {
	switch name {
	case "event":
		o.Event, ok = true, true
	case "entering":
		o.Entering, ok = number(v, MaxEntering)
	case "step":
		o.Step, ok = number(v, MaxSteps-1)
	case "reason":
		r := slices.Index(reasons[:], v)
		o.Reason, ok = Reason(max(r, 0)), r > 0
	case "ran":
		ok = o.setRan(v)
	default:
		return o.Seen.set(name, v)
	}
	return ok
}

func (s *Seen) set(name, v string) (ok bool) {
	switch name {
	case "status":
		s.Status, ok = number(v, 999)
	case "after":
		s.RetryAfter, ok = micros(v)
	case "took":
		s.Timing, ok = timing(v)
	case "body":
		s.Body, ok = decode(v, MaxSeenBody)
	case "error":
		var b []byte
		b, ok = decode(v, MaxSeenError)
		s.Error = string(b)
	default:
		ok = true // of a later version
	}
	return ok
}

func decode(v string, most int) ([]byte, bool) {
	if encoding.DecodedLen(len(v)) > most {
		return nil, false
	}
	b, err := encoding.DecodeString(v)
	return b, err == nil
}

func (o *Outcome) setRan(v string) bool {
	if len(o.Ran) > 0 {
		return false
	}
	for more := true; more; {
		var part string
		part, v, more = strings.Cut(v, ",")
		t, ok := timing(part)
		if !ok || len(o.Ran) == MaxSteps {
			return false
		}
		o.Ran = append(o.Ran, t)
	}
	return true
}

func timing(v string) (t Timing, ok bool) {
	wait, took, ok := strings.Cut(v, "+")
	if !ok {
		return t, false
	}
	if t.Wait, ok = micros(wait); !ok {
		return t, false
	}
	t.Took, ok = micros(took)
	return t, ok
}
