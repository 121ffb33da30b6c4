package standalone

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sidestep-dev/sidestep/channel"
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
