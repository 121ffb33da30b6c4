package main

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/machine"
)

// twoRounds are results in which Always took 100 and 130 µs a hop where the
// net/http loop took 100 and 100.
func twoRounds(t *testing.T) results {
	t.Helper()
	wanted, err := choose("nethttp,sidestep-always")
	if err != nil {
		t.Fatal(err)
	}
	r := newResults(wanted, 2)
	r.add(0, netHTTP, sample{hopP50: 100, perSecond: 3000})
	r.add(1, netHTTP, sample{hopP50: 100, perSecond: 3000})
	r.add(0, sidestepAlways, sample{hopP50: 100, perSecond: 1500})
	r.add(1, sidestepAlways, sample{hopP50: 130, perSecond: 1500})
	r.foreign = []float64{0.01, 0.02}
	return r
}

func TestAGoalIsJudgedByTheMedianOfTheRoundsRatios(t *testing.T) {
	t.Parallel()
	r := twoRounds(t)
	got := make(map[string]string)
	for _, v := range r.verdicts() {
		if v.bound == noBound {
			continue
		}
		got[v.text] = fmt.Sprintf("%.2f %s", v.ratio.Median, v.reached())
	}
	want := map[string]string{
		"hop: Always / net/http loop":        "1.15 yes",
		"throughput: Always / net/http loop": "0.50 no",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestARoundWithoutAMeasurementIsLeftOutOfItsRatio(t *testing.T) {
	t.Parallel()
	r := newResults(contenders(), 3)
	r.add(1, netHTTP, sample{hopP50: 50})
	for round := range 3 {
		r.add(round, sidestepAlways, sample{hopP50: 55})
	}
	if got := r.values[key{netHTTP, hopP50}]; len(got) != 3 || !math.IsNaN(got[0]) || got[1] != 50 || !math.IsNaN(got[2]) {
		t.Fatalf("got %v, want nothing but round 1", got)
	}
	for _, v := range r.verdicts() {
		switch {
		case v.over == sidestepAlways && v.under == netHTTP && v.measure == hopP50:
			if v.ratio.N != 1 || v.reached() != "yes" {
				t.Errorf("got %+v, want the one round's ratio", v)
			}
		case v.bound != noBound && v.reached() != "not measured":
			t.Errorf("%s: got %q without a measurement", v.text, v.reached())
		}
	}
}

func TestTheReportShowsTheSameNumbersAsTextAndAsMarkdown(t *testing.T) {
	t.Parallel()
	r := twoRounds(t)
	m := machine.Machine{Cores: 2, Model: "M", Kernel: "6.1", Go: "go1", Dir: "ext4"}
	var text strings.Builder
	if err := r.text(&text, m); err != nil {
		t.Fatal(err)
	}
	markdown := r.markdown(m)
	for _, want := range []string{
		"net/http loop", "115 (100–130)", "3,000 (3,000–3,000)", "1.15 (1.00–1.30)", "≤ 1.20", "yes", "no",
		"2 cores (M), Linux 6.1, go1, stores on ext4", "2 (1–2) %",
	} {
		for name, report := range map[string]string{"text": text.String(), "Markdown": markdown} {
			if !strings.Contains(report, want) {
				t.Errorf("%s lacks %q:\n%s", name, want, report)
			}
		}
	}
	if strings.Contains(markdown, "Ingress: 1 KiB") {
		t.Error("a table without contenders is shown")
	}
}

func TestABusyMachineIsPointedOut(t *testing.T) {
	t.Parallel()
	r := twoRounds(t)
	warned := func() bool { return strings.Contains(strings.Join(r.notes(machine.Machine{}), " "), "not idle") }
	if warned() {
		t.Error("warned although others used 2 % at most")
	}
	r.foreign[1] = 0.3
	if !warned() {
		t.Error("did not warn although others used 30 %")
	}
}
