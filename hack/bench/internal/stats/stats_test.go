package stats

import (
	"math"
	"slices"
	"testing"
)

func TestQuantileInterpolatesBetweenNeighbours(t *testing.T) {
	values := []float64{1, 2, 3, 4}
	for q, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 2.5, 0.75: 3.25, 1: 4} {
		if got := Quantile(values, q); got != want {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
	if got := Quantile([]float64{7}, 0.99); got != 7 {
		t.Errorf("quantile of one value: got %v, want 7", got)
	}
	if got := Quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing: got %v, want NaN", got)
	}
}

func TestSummarizeSortsACopyAndLeavesOutWhatIsMissing(t *testing.T) {
	values := []float64{5, math.NaN(), 1, 3}
	got := Summarize(values)
	if want := (Summary{N: 3, Min: 1, Median: 3, Max: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if values[0] != 5 || values[2] != 1 {
		t.Errorf("the values given were changed: %v", values)
	}
}

func TestFormatShowsMedianFirstAndTheSpreadAfterIt(t *testing.T) {
	if got, want := Summarize([]float64{1, 2, 3, 4, 5}).Format(1), "3.0 (1.0–5.0)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Summarize([]float64{math.NaN()}).Format(1); got != "–" {
		t.Errorf("nothing: got %q, want a dash", got)
	}
}

func TestNumberSetsThousandsApart(t *testing.T) {
	for _, c := range []struct {
		v        float64
		decimals int
		want     string
	}{
		{0.456, 2, "0.46"},
		{999, 0, "999"},
		{1000, 0, "1,000"},
		{1234567.89, 1, "1,234,567.9"},
		{-12345, 0, "-12,345"},
	} {
		if got := Number(c.v, c.decimals); got != c.want {
			t.Errorf("%v: got %q, want %q", c.v, got, c.want)
		}
	}
}

func TestRatiosPairWhatWasMeasuredInTheSameRound(t *testing.T) {
	a := []float64{2, 9, 6, 1, 4}
	b := []float64{1, math.NaN(), 3, 0}
	if got, want := Ratios(a, b), []float64{2, 2}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestConfidenceIsThatOfStudentsT(t *testing.T) {
	// With 3 values t is 4.303 for 95%: the half-width is that times 0.1/sqrt(3).
	low, high := Confidence([]float64{math.Exp(-0.1), 1, math.Exp(0.1)}, 0.95)
	if want := 4.303 * 0.1 / math.Sqrt(3); math.Abs(math.Log(high)-want) > 1e-3 || math.Abs(math.Log(low)+want) > 1e-3 {
		t.Errorf("between %v and %v, want exp(±%v)", low, high, want)
	}
	if low, high := Confidence([]float64{1}, 0.95); low != 0 || !math.IsInf(high, 1) {
		t.Errorf("one value: between %v and %v", low, high)
	}
}
