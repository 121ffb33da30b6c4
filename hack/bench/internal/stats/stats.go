// Package stats is the little statistics that a benchmark needs: quantiles,
// and ratios pair by pair. Nothing here starts a goroutine or keeps state.
package stats

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Quantile returns the q-quantile (0 to 1) of values that are sorted already,
// interpolated between the two nearest (R's type 7). NaN if there are none.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	below := int(math.Floor(at))
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	part := at - float64(below)
	return sorted[below]*(1-part) + sorted[below+1]*part
}

// Summary is how values are spread.
type Summary struct {
	N                int
	Min, Median, Max float64
}

// Summarize leaves values as they are. Those that are NaN are not counted.
func Summarize(values []float64) Summary {
	sorted := make([]float64, 0, len(values))
	for _, v := range values {
		if !math.IsNaN(v) {
			sorted = append(sorted, v)
		}
	}
	slices.Sort(sorted)
	return Summary{
		N:      len(sorted),
		Min:    Quantile(sorted, 0),
		Median: Quantile(sorted, 0.5),
		Max:    Quantile(sorted, 1),
	}
}

// Format prints the summary as "median (min–max)", each number with so many
// decimals, and thousands set apart.
func (s Summary) Format(decimals int) string {
	if s.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", Number(s.Median, decimals), Number(s.Min, decimals), Number(s.Max, decimals))
}

// Number prints v with so many decimals, and commas between thousands.
func Number(v float64, decimals int) string {
	text := strconv.FormatFloat(math.Abs(v), 'f', decimals, 64)
	whole, rest, _ := strings.Cut(text, ".")
	for at := len(whole) - 3; at > 0; at -= 3 {
		whole = whole[:at] + "," + whole[at:]
	}
	if rest != "" {
		whole += "." + rest
	}
	if v < 0 {
		whole = "-" + whole
	}
	return whole
}

// Ratios divides a by b, place by place: what was measured in the same round
// is compared with each other, so that what slows a whole round cancels out. A
// place that either lacks (NaN, or beyond the end) is left out.
func Ratios(a, b []float64) []float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if r := a[i] / b[i]; !math.IsNaN(r) && !math.IsInf(r, 0) {
			ratios = append(ratios, r)
		}
	}
	return ratios
}

// Confidence returns the bounds between which the geometric mean of ratios is with
// this confidence (0 to 1), if their logarithms are spread normally (Student's t).
// Of fewer than two nothing can be said: 0 and infinity.
func Confidence(ratios []float64, confidence float64) (low, high float64) {
	logs := make([]float64, len(ratios))
	for i, r := range ratios {
		logs[i] = math.Log(r)
	}
	if len(logs) < 2 {
		return 0, math.Inf(1)
	}
	mean, deviation := stat.MeanStdDev(logs, nil)
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(len(logs) - 1)}.Quantile((1 + confidence) / 2)
	half := t * stat.StdErr(deviation, float64(len(logs)))
	return math.Exp(mean - half), math.Exp(mean + half)
}
