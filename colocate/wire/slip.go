package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
)

// Slip is a chain for one pod: which of its steps to run, in order.
type Slip struct {
	// Pod is the UID that the pod told in its Handshake; no other runs it.
	Pod string
	// Namespace is the pod's.
	Namespace string
	// Expires, to the second. The zero time: Lifetime after it is signed.
	Expires time.Time
	// Entering: where a final event is answered, the event that entered the
	// last step comes with it, as that is what a dead letter sink wants if the
	// reply fails. If it is too large, the chain spills before that step. An
	// event that came with the request is not sent back.
	Entering bool
	// Discard: what the last step answers goes nowhere, and is not sent back.
	Discard bool
	// Steps are 1 to MaxSteps, each UID once.
	Steps []Step
}

// Step is one call. The event goes there as egress.Client sends it, with
// "Prefer: reply".
type Step struct {
	// UID of the Subscription.
	UID string
	// Port of the pod's loopback address.
	Port uint16
	// Path of the request, with the query if there is one; begins with "/".
	Path string
	// Host is sent as the Host header; "": the loopback address.
	Host string
	// Namespace is the Subscription's, for the Kn-Namespace header; "" for none.
	Namespace string
	// Authorization is that header's value, "" for none. It is a secret.
	Authorization string
	// Timeout of the attempt; 0: the sidecar's default, 10 min.
	Timeout time.Duration
	// Reference: a payload that is not in memory is handed over as a file, and
	// may be answered as one.
	Reference bool
	// Format is the content mode in which the event is sent.
	Format egress.Format
}

// Bounds of the parts of a slip, in bytes.
const (
	maxName          = 253
	maxHost          = 261 // a DNS name and a port
	maxPath          = 4 << 10
	maxAuthorization = 16 << 10
)

// ErrSlip: a slip is malformed, or its parts are beyond their bounds.
var ErrSlip = errors.New("invalid slip")

// Flags. An unknown one makes a slip invalid: it may restrict.
const (
	flagEntering = 1 << iota
	flagDiscard
	slipFlags = flagEntering | flagDiscard

	flagReference  = 1
	flagStructured = 2
	stepFlags      = flagReference | flagStructured
)

func (s *Slip) validate() error {
	switch {
	case !printable(s.Pod, 1, maxName):
		return fmt.Errorf("%w: pod %.32q", ErrSlip, s.Pod)
	case !printable(s.Namespace, 0, maxName):
		return fmt.Errorf("%w: namespace %.32q", ErrSlip, s.Namespace)
	case len(s.Steps) == 0 || len(s.Steps) > MaxSteps:
		return fmt.Errorf("%w: %d steps, want 1 to %d", ErrSlip, len(s.Steps), MaxSteps)
	}
	for i := range s.Steps {
		if field := s.Steps[i].wrong(); field != "" {
			return fmt.Errorf("%w: %s of step %d", ErrSlip, field, i)
		}
		for j := range i {
			if s.Steps[i].UID == s.Steps[j].UID {
				return fmt.Errorf("%w: steps %d and %d are the same", ErrSlip, j, i)
			}
		}
	}
	return nil
}

// wrong names the field that cannot be, "" if all are well.
func (s *Step) wrong() string {
	switch {
	case !printable(s.UID, 1, maxName):
		return "UID"
	case s.Port == 0:
		return "port"
	case !printable(s.Path, 1, maxPath) || s.Path[0] != '/' || hasFragment(s.Path):
		return "path"
	case !printable(s.Host, 0, maxHost):
		return "host"
	case !printable(s.Namespace, 0, maxName):
		return "namespace"
	case !text(s.Authorization, maxAuthorization):
		return "authorization"
	case s.Timeout < 0 || s.Timeout > MaxTimeout:
		return "timeout"
	case s.Format > egress.Structured:
		return "format"
	}
	return ""
}

// printable tells whether s is of ASCII without spaces: nothing that could end
// a line of HTTP, or a word in it.
func printable(s string, least, most int) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// text tells whether s is of ASCII, with spaces within.
func text(s string, most int) bool {
	if len(s) > most || (s != "" && (s[0] == ' ' || s[len(s)-1] == ' ')) {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// IsStepName tells whether a step may be called so in a path: it is a segment as it is
// written, and none of a sidecar's own.
func IsStepName(name string) bool {
	if name == "" || name[0] == '.' || len(name) > 63 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func hasFragment(path string) bool {
	for i := range len(path) {
		if path[i] == '#' {
			return true
		}
	}
	return false
}

// append appends the part of a slip that is signed: strings with their length
// before them, numbers as uvarints.
func (s *Slip) append(dst []byte) []byte {
	str := func(v string) { dst = append(binary.AppendUvarint(dst, uint64(len(v))), v...) }
	num := func(v uint64) { dst = binary.AppendUvarint(dst, v) }
	str(s.Pod)
	str(s.Namespace)
	num(uint64(max(s.Expires.Unix(), 0)))
	num(flag(s.Entering, flagEntering) | flag(s.Discard, flagDiscard))
	num(uint64(len(s.Steps)))
	for i := range s.Steps {
		p := &s.Steps[i]
		str(p.UID)
		num(uint64(p.Port))
		str(p.Path)
		str(p.Host)
		str(p.Namespace)
		str(p.Authorization)
		num(uint64(p.Timeout.Microseconds()))
		num(flag(p.Reference, flagReference) | flag(p.Format == egress.Structured, flagStructured))
	}
	return dst
}

func flag(on bool, bit uint64) uint64 {
	if on {
		return bit
	}
	return 0
}

// parseSlip reads what append wrote. The slip's strings are parts of b.
func parseSlip(b string) (*Slip, error) {
	r := reader{b: b}
	s := &Slip{Pod: r.str(maxName), Namespace: r.str(maxName)}
	s.Expires = time.Unix(int64(r.num(1<<40)), 0)
	f := r.num(slipFlags)
	s.Entering, s.Discard = f&flagEntering != 0, f&flagDiscard != 0
	n := int(r.num(MaxSteps))
	if !r.bad {
		s.Steps = make([]Step, 0, n)
	}
	for range n {
		if r.bad {
			break
		}
		p := Step{
			UID: r.str(maxName), Port: uint16(r.num(1<<16 - 1)), Path: r.str(maxPath), Host: r.str(maxHost),
			Namespace: r.str(maxName), Authorization: r.str(maxAuthorization),
			Timeout: time.Duration(r.num(uint64(MaxTimeout/time.Microsecond))) * time.Microsecond,
		}
		f := r.num(stepFlags)
		p.Reference = f&flagReference != 0
		if f&flagStructured != 0 {
			p.Format = egress.Structured
		}
		s.Steps = append(s.Steps, p)
	}
	if r.bad || r.b != "" {
		return nil, fmt.Errorf("%w: malformed", ErrSlip)
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// reader reads strings and numbers until something is wrong.
type reader struct {
	b   string
	bad bool
}

func (r *reader) num(most uint64) uint64 {
	var v uint64
	for i := 0; i < len(r.b) && i < binary.MaxVarintLen64; i++ {
		c := r.b[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.b = r.b[i+1:]
			if v > most {
				r.bad = true
				return 0
			}
			return v
		}
	}
	r.bad = true
	return 0
}

func (r *reader) str(most int) string {
	n := int(r.num(uint64(most)))
	if r.bad || n > len(r.b) {
		r.bad = true
		return ""
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}
