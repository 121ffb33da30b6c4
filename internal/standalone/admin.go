package standalone

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/internal/budget"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
)

// readiness is what /readyz says. It starts not ready.
type readiness struct {
	ready    atomic.Bool
	stopping atomic.Bool
}

var (
	errStarting = errors.New("starting")
	errStopping = errors.New("stopping")
)

func (r *readiness) check(d *channel.Dispatcher) error {
	switch {
	case r.stopping.Load():
		return errStopping
	case !r.ready.Load():
		return errStarting
	}
	return d.Err()
}

// adminHandler serves /healthz, /readyz, /metrics, /debug/hops and /debug/pprof.
func adminHandler(r *readiness, d *channel.Dispatcher, reg *prometheus.Registry, hops *telemetry.Hops) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := r.check(d); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.Handle("GET /debug/hops", hops)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// gauges registers what is read when asked for.
func gauges(reg prometheus.Registerer, d *channel.Dispatcher, b *budget.Budget) {
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge("sidestep_records_in_flight", "Records received and not yet settled.", func() float64 {
		n, _ := d.Totals()
		return float64(n)
	})
	gauge("sidestep_records_parked", "Records in flight that wait for a dead letter sink or for the backend.",
		func() float64 {
			_, n := d.Totals()
			return float64(n)
		})
	gauge("sidestep_budget_used_bytes", "Bytes of events in memory that are charged to the budget.",
		func() float64 { return float64(b.Used()) })
	gauge("sidestep_budget_bytes", "The byte budget.",
		func() float64 { return float64(b.Total()) })
	gauge("sidestep_backend_full", "1 while the backend takes no events from outside.", func() float64 {
		if d.Room() != nil {
			return 1
		}
		return 0
	})
}
