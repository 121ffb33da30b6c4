package balance

import "fmt"

// Policy is how a replica is chosen.
type Policy uint8

const (
	// LeastRequest draws two replicas and takes the one that has fewer chains for
	// its weight, ours and those it reported of others.
	LeastRequest Policy = iota
	// RoundRobin takes one after the other.
	RoundRobin
	// Weighted takes turns by the declared weights, smoothly: a replica's turns
	// are spread among those of the others.
	Weighted
	// Maglev gives a key to the same replica for as long as it is there, whichever
	// process asks and whatever its zone; weights do not count. A chain without a
	// key goes by LeastRequest.
	Maglev
)

var policies = [...]string{"least-request", "round-robin", "weighted", "maglev"}

func (p Policy) valid() bool { return int(p) < len(policies) }

// String is the name that [ParsePolicy] takes.
func (p Policy) String() string {
	if !p.valid() {
		return fmt.Sprintf("policy %d", uint8(p))
	}
	return policies[p]
}

// ParsePolicy reads a policy's name, as in a configuration.
func ParsePolicy(name string) (Policy, error) {
	for p, n := range policies {
		if n == name {
			return Policy(p), nil
		}
	}
	return 0, fmt.Errorf("policy %q is unknown, want one of %q", name, policies)
}
