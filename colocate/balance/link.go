package balance

import "time"

// alpha is the weight of a new value in every moving average: the last ten or
// so count.
const alpha = 0.1

// average is an exponentially weighted moving average.
type average struct {
	v     float64
	known bool
}

func (a *average) add(v float64) {
	if !a.known {
		a.v, a.known = v, true
		return
	}
	a.v += alpha * (v - a.v)
}

// Exchanges with fewer bytes tell the round trip, those with more the rate.
const (
	fewBytes  = 16 << 10
	manyBytes = 64 << 10
)

// link is the network between this process and a pod, in seconds.
type link struct {
	roundTrip, perByte float64 // assumed, until measured
	measuredTrip       average
	measuredRate       average // of time per byte: its mean is what a transfer takes
}

// learn takes the part of an exchange that the pod did not have the chain.
func (l *link) learn(overhead time.Duration, bytes int64) {
	s := max(0, overhead.Seconds())
	switch {
	case bytes <= fewBytes:
		l.measuredTrip.add(s)
		l.roundTrip = l.measuredTrip.v
	case bytes >= manyBytes:
		l.measuredRate.add(max(0, s-l.roundTrip) / float64(bytes))
		l.perByte = l.measuredRate.v
	}
}

// transfer is how long a payload takes, in one direction.
func (l *link) transfer(bytes int64) float64 { return l.perByte * float64(max(0, bytes)) }
