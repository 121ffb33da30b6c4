package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/internal/budget"
)

// Gauges registers what is read when asked for: of the process, of the dispatcher
// and of its byte budget.
func Gauges(reg prometheus.Registerer, d *channel.Dispatcher, b *budget.Budget) {
	gauge := gauges(reg)
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
	gauge("sidestep_backend_full", "1 while a backend takes no events from outside for one channel or more.",
		oneIf(func() bool { return d.Full() > 0 }))
}

// Backends registers what is read when asked for of the backends that logs are on.
func Backends(reg prometheus.Registerer, moving func() int, unreachable func() bool) {
	gauge := gauges(reg)
	gauge("sidestep_logs_moving", "Logs on their way from one backend to another.", func() float64 { return float64(moving()) })
	gauge("sidestep_backend_unreachable", "1 while a backend that the configuration names cannot be used, and all stays where it is.",
		oneIf(unreachable))
}

func gauges(reg prometheus.Registerer) func(name, help string, value func() float64) {
	return func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
}

func oneIf(f func() bool) func() float64 {
	return func() float64 {
		if f() {
			return 1
		}
		return 0
	}
}

// NewDiscarded counts what is given up of what was stored. It is the caller's to register.
func NewDiscarded() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sidestep_records_discarded_total",
		Help: "Records left in channels and subscriptions that were removed, when their time to drain was over.",
	})
}
