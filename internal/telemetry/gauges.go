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
	gauge("sidestep_backend_full", "1 while a backend takes no events from outside for one channel or more.", func() float64 {
		if d.Full() > 0 {
			return 1
		}
		return 0
	})
}
