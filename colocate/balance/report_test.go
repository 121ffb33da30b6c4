package balance

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func sampleReport() *Report {
	return &Report{Elapsed: 1500 * time.Microsecond, Steps: []Load{
		{Step: "9101", InFlight: 3, Queue: 1, Limit: 8, ServiceTime: 250 * time.Millisecond},
		{Step: "re-size_2.x", InFlight: 0, Queue: 0, Limit: 0},
	}}
}

func TestAReportIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"text": string(AppendText(nil, sampleReport())),
		"json": string(AppendJSON(nil, sampleReport())),
		"as ORCA writes it": "TEXT cpu_utilization=0.3, named_metrics.sidestep.elapsed=0.0015," +
			"named_metrics.sidestep.9101.in_flight=3,named_metrics.sidestep.9101.queue=1,named_metrics.sidestep.9101.limit=8," +
			"named_metrics.sidestep.9101.service_time=0.25,named_metrics.sidestep.re-size_2.x.in_flight=0,named_metrics.other=1",
		"in camels": `JSON {"cpuUtilization":0.3,"namedMetrics":{"sidestep.elapsed":"0.0015","sidestep.9101.in_flight":3,` +
			`"sidestep.9101.queue":1,"sidestep.9101.limit":8,"sidestep.9101.service_time":0.25,"sidestep.re-size_2.x.queue":0,"other":[]}}`,
	} {
		var r Report
		if err := ParseReport(text, &r); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, want := fmt.Sprint(r), fmt.Sprint(*sampleReport()); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestAReportThatCannotBeIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	many := "TEXT "
	for i := range MaxSteps + 1 {
		many += fmt.Sprintf("named_metrics.sidestep.%d.queue:1,", i)
	}
	for name, text := range map[string]string{
		"no form":        "in_flight:1",
		"negative":       "TEXT named_metrics.sidestep.a.in_flight:-1",
		"not a number":   "TEXT named_metrics.sidestep.a.in_flight:NaN",
		"infinite":       "TEXT named_metrics.sidestep.a.service_time:Inf",
		"too large":      "TEXT named_metrics.sidestep.a.queue:1e30",
		"twice":          "TEXT named_metrics.sidestep.a.queue:1,named_metrics.sidestep.a.queue:1",
		"elapsed twice":  "TEXT named_metrics.sidestep.elapsed:1,named_metrics.sidestep.elapsed:1",
		"a bad name":     "TEXT named_metrics.sidestep.a b.queue:1",
		"no name":        "TEXT named_metrics.sidestep..queue:1",
		"no value":       "TEXT named_metrics.sidestep.a.queue",
		"too many steps": many,
		"too long":       "TEXT " + strings.Repeat("x:1,", MaxReportBytes),
		"broken JSON":    "JSON {",
	} {
		r := *sampleReport()
		err := ParseReport(text, &r)
		if !errors.Is(err, ErrReport) || len(r.Steps) != 0 || r.Elapsed != 0 {
			t.Errorf("%s: %v, and %d steps are left", name, err, len(r.Steps))
		}
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add(string(AppendText(nil, sampleReport())))
	f.Add(string(AppendJSON(nil, sampleReport())))
	f.Add("TEXT a=1,named_metrics.sidestep.x.queue:2")
	f.Add(`JSON {"namedMetrics":{"sidestep.x.limit":"9"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var r Report
		if err := ParseReport(text, &r); err != nil {
			if !errors.Is(err, ErrReport) || len(r.Steps) != 0 {
				t.Errorf("%v, with %d steps", err, len(r.Steps))
			}
			return
		}
		if len(r.Steps) > MaxSteps || r.Elapsed < 0 || r.Elapsed > MaxTime {
			t.Fatalf("beyond bounds: %+v", r)
		}
		for _, s := range r.Steps {
			if !validStep(s.Step) || s.InFlight < 0 || s.InFlight > MaxCount || s.Queue < 0 || s.Limit < 0 || s.ServiceTime < 0 || s.ServiceTime > MaxTime {
				t.Errorf("beyond bounds: %+v", s)
			}
		}
		// What we write of it, we read.
		var again Report
		if err := ParseReport(string(AppendText(nil, &r)), &again); err != nil && len(AppendText(nil, &r)) <= MaxReportBytes {
			t.Errorf("write and read: %v", err)
		}
	})
}

func TestReadingAReportDoesNotAllocate(t *testing.T) {
	text := string(AppendText(nil, sampleReport()))
	r := Report{Steps: make([]Load, 0, 4)}
	if n := testing.AllocsPerRun(100, func() {
		if err := ParseReport(text, &r); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
