package wire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Limits are of one request. They are not signed: none makes a sidecar do more than
// the slip and its own configuration allow.
type Limits struct {
	// Start is the index of the first step to run.
	Start int
	// Steps is how many of them to run; 0: all that follow.
	Steps int
	// Room is the most bytes of a record that an event may become between two
	// steps (event.RecordSize): beyond it the chain spills. 0: any number.
	Room int
	// SpillAfter is how long to wait for a place at a step that is not the
	// first, to the microsecond; then the chain spills. NoLimit: for as long as
	// the sidecar allows.
	SpillAfter time.Duration
	// Wait is how long to wait for a place at the first step, to the microsecond, as
	// far as the sidecar allows: for an event that a busy pod has given back, and
	// which would wait nowhere else. 0: not at all, the answer is Busy.
	Wait time.Duration
	// Budget is how long the chain may have run when its next step begins, to
	// the microsecond: the checkpoint. NoLimit: no checkpoint.
	Budget time.Duration
	// Traced: the event's trace context is that of the first step; those that
	// follow get event.Trace.Next of it. Else they get what the events say.
	Traced bool
}

// NoLimit is no limit.
const NoLimit time.Duration = -1

// ErrLimits is wrapped by the errors of ParseLimits.
var ErrLimits = errors.New("invalid limits")

// Append appends the value of the limits header.
func (l *Limits) Append(dst []byte) []byte {
	dst = strconv.AppendInt(dst, Version, 10)
	if l.Start > 0 {
		dst = strconv.AppendInt(append(dst, ";start="...), int64(l.Start), 10)
	}
	if l.Steps > 0 {
		dst = strconv.AppendInt(append(dst, ";steps="...), int64(l.Steps), 10)
	}
	if l.Room > 0 {
		dst = strconv.AppendInt(append(dst, ";room="...), int64(l.Room), 10)
	}
	if l.SpillAfter >= 0 {
		dst = appendMicros(append(dst, ";spill-after="...), l.SpillAfter)
	}
	if l.Budget >= 0 {
		dst = appendMicros(append(dst, ";budget="...), l.Budget)
	}
	if l.Wait > 0 {
		dst = appendMicros(append(dst, ";wait="...), l.Wait)
	}
	if l.Traced {
		dst = append(dst, ";traced"...)
	}
	return dst
}

// ParseLimits reads the value of the limits header; "" has no limits. It does not
// allocate.
func ParseLimits(value string) (Limits, error) {
	l := Limits{SpillAfter: NoLimit, Budget: NoLimit}
	if value == "" {
		return l, nil
	}
	if len(value) > MaxLimitsBytes {
		return l, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrLimits, len(value), MaxLimitsBytes)
	}
	rest, _, err := cutVersion(value, ";")
	if err != nil {
		return l, fmt.Errorf("%w: %w", ErrLimits, err)
	}
	for name, v := range fields(rest) {
		ok := true
		switch name {
		case "start":
			l.Start, ok = number(v, MaxSteps-1)
		case "steps":
			l.Steps, ok = number(v, MaxSteps)
		case "room":
			l.Room, ok = number(v, math.MaxInt)
		case "spill-after":
			l.SpillAfter, ok = micros(v)
		case "budget":
			l.Budget, ok = micros(v)
		case "wait":
			l.Wait, ok = micros(v)
		case "traced":
			l.Traced = true
		}
		if !ok {
			return l, fmt.Errorf("%w: %s=%.32q", ErrLimits, name, v)
		}
	}
	return l, nil
}
