package telemetry

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sampleHop(i int) *channel.Hop {
	return &channel.Hop{
		Channel:      &channel.Channel{Namespace: "ns", Name: "ch"},
		Subscription: &channel.Subscription{UID: fmt.Sprint("uid", i), Name: "sub"},
		Event:        &event.Event{ID: fmt.Sprint("id", i), Source: fmt.Sprint("/s", i), Type: fmt.Sprint("t", i), Data: []byte("data")},
		Start:        time.Unix(1, 0), Took: time.Millisecond,
		Dest:   fmt.Sprint("http://host/", i),
		Result: &egress.Result{Status: 200, Attempts: 1},
	}
}

// gather returns each series as name{label="value",...}, with what it counts.
func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			key := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			series[key] = m.GetCounter().GetValue()
			if h := m.GetHistogram(); h != nil {
				series[key] = float64(h.GetSampleCount())
			}
		}
	}
	return series
}

func wantSeries(t *testing.T, got map[string]float64, want map[string]float64) {
	t.Helper()
	for key, w := range want {
		if g, ok := got[key]; !ok || g != w {
			t.Errorf("%s: got %v (present: %t), want %v", key, g, ok, w)
		}
	}
	var extra []string
	for key := range got {
		if _, ok := want[key]; !ok {
			extra = append(extra, key)
		}
	}
	slices.Sort(extra)
	if len(extra) > 0 {
		t.Errorf("not asked for:\n%s", strings.Join(extra, "\n"))
	}
}

// Dashboards and alerts are written against these names.
func TestNamesAndLabelsOfAllMetrics(t *testing.T) {
	t.Parallel()
	r := prometheus.NewPedanticRegistry()
	m := New(r, nil)
	m.Ingress("ns", "ch", 202, 100, time.Millisecond)
	m.Ingress("ns", "ch", 202, 100, time.Millisecond)
	m.Ingress("", "", 404, 0, time.Millisecond)
	m.Hop(sampleHop(1))
	failed := sampleHop(2)
	failed.Leg, failed.Travel, failed.Result = channel.ToDeadLetter, channel.ShortCircuited, &egress.Result{}
	m.Hop(failed)
	handed := sampleHop(3)
	handed.Travel, handed.Spilled, handed.Pod = channel.ShortCircuited, channel.Overloaded, "pod"
	m.Hop(handed)
	stored := sampleHop(4)
	stored.Leg, stored.Travel, stored.Spilled, stored.Result = channel.ToSpill, channel.InPod, channel.Failed, &egress.Result{Status: 202}
	m.Hop(stored)
	stored.Result = &egress.Result{Err: errors.New("store down")} // tried again: counted when it is there
	m.Hop(stored)
	m.End(&channel.End{Ending: channel.Replied, Steps: 3, Took: time.Second, Risk: time.Millisecond, Again: 2})
	wantSeries(t, gather(t, r), map[string]float64{
		`sidestep_ingress_events_total{channel="ch",code="202",namespace="ns"}`:                                   2,
		`sidestep_ingress_events_total{channel="",code="404",namespace=""}`:                                       1,
		`sidestep_ingress_event_bytes{}`:                                                                          2,
		`sidestep_ingress_duration_seconds{}`:                                                                     2,
		`kn_eventing_dispatch_duration_seconds{channel="ch",leg="step",namespace="ns"}`:                           2,
		`kn_eventing_dispatch_duration_seconds{channel="ch",leg="spill",namespace="ns"}`:                          2,
		`sidestep_hops_total{channel="ch",code="200",leg="step",namespace="ns",travel="short-circuited"}`:         1,
		`sidestep_hops_total{channel="ch",code="202",leg="spill",namespace="ns",travel="colocated"}`:              1,
		`sidestep_hops_total{channel="ch",code="none",leg="spill",namespace="ns",travel="colocated"}`:             1,
		`sidestep_spills_total{channel="ch",namespace="ns",reason="overload",to="pod"}`:                           1,
		`sidestep_spills_total{channel="ch",namespace="ns",reason="status",to="store"}`:                           1,
		`sidestep_repeated_steps_total{}`:                                                                         2,
		`sidestep_work_at_risk_seconds{}`:                                                                         1,
		`kn_eventing_dispatch_duration_seconds{channel="ch",leg="dead-letter",namespace="ns"}`:                    1,
		`sidestep_hops_total{channel="ch",code="200",leg="step",namespace="ns",travel="stored"}`:                  1,
		`sidestep_hops_total{channel="ch",code="none",leg="dead-letter",namespace="ns",travel="short-circuited"}`: 1,
		`sidestep_records_total{ending="replied"}`:                                                                1,
		`sidestep_chain_steps{}`:             1,
		`sidestep_settle_duration_seconds{}`: 1,
	})
}

// Whatever events carry, and whatever a step answers, the series do not grow.
func TestSeriesDoNotGrowWithEvents(t *testing.T) {
	t.Parallel()
	r := prometheus.NewPedanticRegistry()
	m := New(r, nil)
	m.Hop(sampleHop(0))
	odd := sampleHop(0)
	odd.Result = &egress.Result{Status: 999}
	m.Hop(odd)
	before := len(gather(t, r))
	for i := range 1000 {
		h := sampleHop(i)
		h.Result = &egress.Result{Status: 200, Err: fmt.Errorf("error %d", i), Body: []byte(fmt.Sprint(i))}
		m.Hop(h)
		h = sampleHop(i)
		h.Result = &egress.Result{Status: 600 + i}
		m.Hop(h)
		m.End(&channel.End{Log: fmt.Sprint(i), UID: fmt.Sprint(i)})
	}
	const endings = 1
	if after := len(gather(t, r)); after != before+endings {
		t.Errorf("%d series before and %d after 2000 hops", before, after)
	}
}

func TestMetricsFromManyGoroutines(t *testing.T) {
	t.Parallel()
	r := prometheus.NewPedanticRegistry()
	m := New(r, new(Hops))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 100 {
				m.Hop(sampleHop(i))
				m.Ingress("ns", "ch", 202, 1, time.Millisecond)
				m.End(&channel.End{})
			}
		})
	}
	wg.Wait()
	got := gather(t, r)
	for _, key := range []string{
		`sidestep_ingress_events_total{channel="ch",code="202",namespace="ns"}`,
		`sidestep_hops_total{channel="ch",code="200",leg="step",namespace="ns",travel="stored"}`,
		`sidestep_records_total{ending="completed"}`,
	} {
		if got[key] != 800 {
			t.Errorf("%s: got %v, want 800", key, got[key])
		}
	}
}
