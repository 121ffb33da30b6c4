package replica

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readiness is what /readyz says. It starts not ready.
type readiness struct {
	begun    atomic.Bool
	stopping atomic.Bool
}

var (
	errStarting = errors.New("starting")
	errStopping = errors.New("stopping")
)

func (r *readiness) check(further func() error) error {
	switch {
	case r.stopping.Load():
		return errStopping
	case !r.begun.Load():
		return errStarting
	case further != nil:
		return further()
	}
	return nil
}

// adminHandler serves /healthz, /readyz, /metrics and /debug/hops, and what is
// added.
func (r *Replica) adminHandler(ready func() error, add map[string]http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := r.ready.check(ready); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.Registry, promhttp.HandlerOpts{}))
	mux.Handle("GET /debug/hops", &r.hops)
	for pattern, h := range add {
		mux.Handle(pattern, h)
	}
	return mux
}
