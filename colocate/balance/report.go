package balance

import (
	"strconv"
	"time"
)

// Header is the response header that a [Report] travels in.
const Header = "Endpoint-Load-Metrics"

// Bounds of a report. One that is beyond them is refused as a whole.
const (
	// MaxReportBytes bounds the header's value.
	MaxReportBytes = 8 << 10
	// MaxSteps is how many steps one report may speak of.
	MaxSteps = 64
	// MaxStepName bounds a step's name, in bytes.
	MaxStepName = 64
	// MaxCount bounds the numbers of chains in flight, in a queue and allowed.
	MaxCount = 1 << 20
	// MaxTime bounds every time in a report.
	MaxTime = time.Hour
)

// Report is what a pod says of itself with each of its answers.
type Report struct {
	// Elapsed is how long the pod had the chain that it answers, from the
	// request's last byte to the answer's first; 0 if it does not say. What the
	// exchange took beyond that is the network's.
	Elapsed time.Duration
	// Steps are the loads of the pod's steps, without the chain that is answered.
	Steps []Load
}

// Load is what a pod says of one of its steps. A pod has limits for each of its
// steps, so one number for the pod would say little.
type Load struct {
	// Step is its name within the pod: ASCII letters, digits, "-", "_", ".".
	Step string
	// InFlight are running now, Queue wait for a place, and Limit may run at
	// once; a Limit of 0 is not known.
	InFlight, Queue, Limit int
	// ServiceTime is how long it runs once it has a place, on average; 0 is not
	// known.
	ServiceTime time.Duration
}

// Names of our metrics: sidestep.elapsed and sidestep.<step>.<field>, in the
// map of named metrics, as ORCA has no field for any of them.
const (
	namedMetrics = "named_metrics."
	ours         = "sidestep."
	elapsedName  = "elapsed"
)

// field is one number of a Load.
type field uint8

const (
	inFlight field = 1 << iota
	queue
	limit
	serviceTime
)

type fieldName struct {
	field
	name string
}

var fields = [...]fieldName{{inFlight, "in_flight"}, {queue, "queue"}, {limit, "limit"}, {serviceTime, "service_time"}}

// AppendText appends a report as the TEXT form of ORCA. Steps whose names are
// not valid, and those beyond MaxSteps, are left out. It allocates only to grow
// dst.
//
// ORCA's text writes "name=value" and Envoy reads "name:value" only: this
// writes what Envoy reads, and [ParseReport] takes both.
func AppendText(dst []byte, r *Report) []byte {
	dst = append(dst, "TEXT "...)
	first := true
	r.metrics(func(named bool, step, name string, v float64) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if named {
			dst = append(dst, namedMetrics...)
		}
		dst = append(appendName(dst, step, name), ':')
		dst = strconv.AppendFloat(dst, v, 'g', 6, 64)
	})
	return dst
}

// AppendJSON appends a report as the JSON form of ORCA, see [AppendText].
func AppendJSON(dst []byte, r *Report) []byte {
	dst = append(dst, "JSON {"...)
	named := 0
	r.metrics(func(isNamed bool, step, name string, v float64) {
		switch {
		case isNamed && named == 0:
			dst = append(dst, `,"named_metrics":{"`...)
		case isNamed:
			dst = append(dst, `,"`...)
		default:
			dst = append(dst, '"')
		}
		if isNamed {
			named++
		}
		dst = append(appendName(dst, step, name), `":`...)
		dst = strconv.AppendFloat(dst, v, 'g', 6, 64)
	})
	if named > 0 {
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

func appendName(dst []byte, step, name string) []byte {
	if step != "" {
		dst = append(append(append(dst, ours...), step...), '.')
	}
	return append(dst, name...)
}

// metrics calls f with every metric of a report: first ORCA's own, then the
// named ones.
func (r *Report) metrics(f func(named bool, step, name string, v float64)) {
	f(false, "", "application_utilization", r.utilization())
	if r.Elapsed > 0 {
		f(true, "", ours+elapsedName, r.Elapsed.Seconds())
	}
	steps := r.Steps
	if len(steps) > MaxSteps {
		steps = steps[:MaxSteps]
	}
	for i := range steps {
		s := &steps[i]
		if !validStep(s.Step) {
			continue
		}
		f(true, s.Step, "in_flight", float64(s.InFlight))
		f(true, s.Step, "queue", float64(s.Queue))
		f(true, s.Step, "limit", float64(s.Limit))
		f(true, s.Step, "service_time", s.ServiceTime.Seconds())
	}
}

// utilization is the share of its places that the fullest step uses or waits
// for. We have no use for it; others that read ORCA have.
func (r *Report) utilization() (most float64) {
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Limit > 0 {
			most = max(most, float64(s.InFlight+s.Queue)/float64(s.Limit))
		}
	}
	return most
}

// validStep tells whether a name can be part of a metric's name in both forms.
func validStep(name string) bool {
	if name == "" || len(name) > MaxStepName {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
