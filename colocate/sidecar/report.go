package sidecar

import (
	"math"
	"strconv"
	"time"
)

// reportHeader is the header of a load report in the format of ORCA, and maxReport
// bounds its value, in bytes: see colocate/balance, which reads it.
const (
	reportHeader = "endpoint-load-metrics"
	maxReport    = 8 << 10
)

// appendReport appends the loads of all steps, without the chain that is
// answered: what was taken back already. elapsed is how long the pod had the
// chain, 0 for none. What is 0 is left out, and the busy steps come first: should
// there be more than the header has room for, those that are missing are idle, as
// they then seem to be.
//
//	TEXT application_utilization:0.25,named_metrics.sidestep.elapsed:0.00031,
//	named_metrics.sidestep.9101.limit:64,named_metrics.sidestep.9101.in_flight:16,...
func (s *Sidecar) appendReport(dst []byte, elapsed time.Duration) []byte {
	start := len(dst)
	dst = append(dst, "TEXT application_utilization:"...)
	dst = strconv.AppendFloat(dst, s.utilization(), 'f', 3, 64)
	if elapsed > 0 {
		dst = appendSeconds(append(dst, ",named_metrics.sidestep.elapsed:"...), elapsed.Seconds())
	}
	var told [MaxPorts]bool // meanwhile one may become busy, or idle
	for _, busyOnly := range [...]bool{true, false} {
		for i, st := range s.steps {
			if len(dst)-start > maxReport-256 {
				break
			}
			inFlight, queue := len(st.places), st.waiting.Load()
			if told[i] || busyOnly && inFlight == 0 && queue == 0 {
				continue
			}
			told[i] = true
			dst = st.appendLoad(dst, inFlight, queue)
		}
	}
	return dst
}

func (s *step) appendLoad(dst []byte, inFlight int, queue int64) []byte {
	dst = strconv.AppendInt(s.metric(dst, "limit:"), int64(cap(s.places)), 10)
	if inFlight > 0 {
		dst = strconv.AppendInt(s.metric(dst, "in_flight:"), int64(inFlight), 10)
	}
	if queue > 0 {
		dst = strconv.AppendInt(s.metric(dst, "queue:"), queue, 10)
	}
	if service := math.Float64frombits(s.service.Load()); service > 0 {
		dst = appendSeconds(s.metric(dst, "service_time:"), service)
	}
	return dst
}

func (s *step) metric(dst []byte, name string) []byte {
	dst = append(append(dst, ",named_metrics.sidestep."...), s.name...)
	return append(append(dst, '.'), name...)
}

// appendSeconds writes microseconds as seconds: the last digit is enough.
func appendSeconds(dst []byte, s float64) []byte {
	us := int64(min(max(s, 0), 3600) * 1e6)
	dst = append(strconv.AppendInt(dst, us/1e6, 10), '.')
	for unit := int64(100_000); unit > 0; unit /= 10 {
		dst = append(dst, '0'+byte(us/unit%10))
	}
	return dst
}

// utilization is the share of its places that the fullest step uses or waits
// for.
func (s *Sidecar) utilization() (most float64) {
	for _, st := range s.steps {
		used := float64(int64(len(st.places)) + st.waiting.Load())
		most = max(most, used/float64(cap(st.places)))
	}
	return most
}
