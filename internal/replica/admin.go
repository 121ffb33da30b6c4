package replica

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var errStopping = errors.New("stopping")

// adminHandler serves /healthz, /readyz, /metrics and /debug/hops, and what is
// added.
func (r *Replica) adminHandler(ready func() error, add map[string]http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := ready()
		if r.stopping.Load() {
			err = errStopping
		}
		if err != nil {
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
