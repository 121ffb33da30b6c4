package workload

import (
	"fmt"
	"net/url"
	"strconv"
)

// Target is a URL that was parsed once.
type Target struct{ url *url.URL }

// ParseTarget makes a Target.
func ParseTarget(raw string) (Target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Target{}, fmt.Errorf("parse target: %w", err)
	}
	return Target{url: u}, nil
}

// StepURL is where a step is, 1 to Steps, of the steps server at base.
func StepURL(base string, step int) string { return base + "/" + strconv.Itoa(step) }

// StepTargets are all the steps of the server at base, in order.
func StepTargets(base string) ([]Target, error) {
	targets := make([]Target, 0, Steps)
	for step := 1; step <= Steps; step++ {
		t, err := ParseTarget(StepURL(base, step))
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}
