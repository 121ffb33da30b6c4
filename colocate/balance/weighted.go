package balance

// maxSchedule bounds the turns in a schedule. Weights whose sum is larger are
// scaled down; none loses its last turn.
const maxSchedule = 4096

// newSchedule lists whose turn it is, by smooth weighted round robin as nginx
// does it: each turn everyone's credit grows by its weight, and who has most
// pays the sum of all weights for it. The order repeats after that many turns,
// so it is made once, and a pick is one look-up without a lock.
func newSchedule(cs []candidate) []uint32 {
	weights := scaled(cs)
	sum := 0
	for _, w := range weights {
		sum += w
	}
	schedule, credit := make([]uint32, 0, sum), make([]int, len(cs))
	for range sum {
		most := 0
		for i, w := range weights {
			if credit[i] += w; credit[i] > credit[most] {
				most = i
			}
		}
		credit[most] -= sum
		schedule = append(schedule, uint32(most))
	}
	return schedule
}

// scaled are the weights, without their common divisor, and with a sum of about
// maxSchedule at most.
func scaled(cs []candidate) []int {
	weights := make([]int, len(cs))
	divisor, sum := 0, 0.0
	for i, c := range cs {
		weights[i] = c.weight
		divisor = gcd(c.weight, divisor)
		sum += float64(c.weight)
	}
	shrink := max(1, sum/float64(divisor)/maxSchedule)
	for i := range weights {
		weights[i] = max(1, int(float64(weights[i])/float64(divisor)/shrink))
	}
	return weights
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
