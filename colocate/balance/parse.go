package balance

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrReport is wrapped by every error of [ParseReport].
var ErrReport = errors.New("load report")

// ParseReport reads the value of [Header] into r, whose Steps it reuses. Names
// in r are parts of header. The TEXT form is read without allocating.
//
// Metrics that are not ours are passed over. A number of ours that is not
// finite, negative or beyond its bound, a metric that comes twice, and more of
// anything than the bounds allow make the whole report an error: a pod that is
// wrong about one number is not believed about the next. r is then empty.
func ParseReport(header string, r *Report) error {
	p := parser{r: r}
	r.Elapsed, r.Steps = 0, r.Steps[:0]
	err := p.parse(header)
	if err != nil {
		r.Elapsed, r.Steps = 0, r.Steps[:0]
		return fmt.Errorf("%w: %w", ErrReport, err)
	}
	return nil
}

// parser collects the metrics of one report.
type parser struct {
	r       *Report
	elapsed bool            // it was said
	have    [MaxSteps]field // which numbers of r.Steps were said
}

func (p *parser) parse(header string) error {
	if len(header) > MaxReportBytes {
		return fmt.Errorf("has %d bytes, at most %d are read", len(header), MaxReportBytes)
	}
	form, body, _ := strings.Cut(strings.TrimSpace(header), " ")
	switch form {
	case "TEXT":
		return p.text(body)
	case "JSON":
		return p.json(body)
	}
	return fmt.Errorf("begins with %.16q, want TEXT or JSON", form)
}

func (p *parser) text(body string) error {
	for more := true; more; {
		var metric string
		metric, body, more = strings.Cut(body, ",")
		metric = strings.TrimSpace(metric)
		if metric == "" {
			continue
		}
		i := strings.IndexAny(metric, ":=")
		if i < 0 {
			return fmt.Errorf("has %.80q, want name:value", metric)
		}
		name, named := strings.CutPrefix(strings.TrimSpace(metric[:i]), namedMetrics)
		if !named {
			continue
		}
		if err := p.metric(name, strings.TrimSpace(metric[i+1:])); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) json(body string) error {
	// The fields of a protobuf message have two names in JSON.
	var report struct {
		Snake map[string]json.RawMessage `json:"named_metrics"`
		Camel map[string]json.RawMessage `json:"namedMetrics"`
	}
	if err := json.Unmarshal([]byte(body), &report); err != nil {
		return err
	}
	for _, metrics := range []map[string]json.RawMessage{report.Snake, report.Camel} {
		for _, name := range slices.Sorted(maps.Keys(metrics)) {
			// So have its numbers: 0.5 and "0.5".
			if err := p.metric(name, strings.Trim(string(metrics[name]), `"`)); err != nil {
				return err
			}
		}
	}
	return nil
}

// metric takes one named metric.
func (p *parser) metric(name, value string) error {
	rest, our := strings.CutPrefix(name, ours)
	if !our {
		return nil
	}
	if rest == elapsedName {
		if p.elapsed {
			return fmt.Errorf("has %s twice", name)
		}
		p.elapsed = true
		return p.time(&p.r.Elapsed, name, value)
	}
	dot := strings.LastIndexByte(rest, '.')
	if dot < 0 {
		return nil // of a later version
	}
	i := slices.IndexFunc(fields[:], func(f fieldName) bool { return f.name == rest[dot+1:] })
	if i < 0 {
		return nil
	}
	at, err := p.step(rest[:dot])
	if err != nil {
		return err
	}
	f, load := fields[i].field, &p.r.Steps[at]
	if p.have[at]&f != 0 {
		return fmt.Errorf("has %.80s twice", name)
	}
	p.have[at] |= f
	switch f {
	case inFlight:
		return p.count(&load.InFlight, name, value)
	case queue:
		return p.count(&load.Queue, name, value)
	case limit:
		return p.count(&load.Limit, name, value)
	default:
		return p.time(&load.ServiceTime, name, value)
	}
}

// step finds a step by its name, or makes it. The metrics of a step mostly come
// one after the other, so the last one is looked at first.
func (p *parser) step(name string) (int, error) {
	steps := p.r.Steps
	for i := len(steps) - 1; i >= 0; i-- {
		if steps[i].Step == name {
			return i, nil
		}
	}
	if !validStep(name) {
		return 0, fmt.Errorf("has a step named %.80q, want 1 to %d letters, digits, '-', '_' or '.'", name, MaxStepName)
	}
	if len(steps) == MaxSteps {
		return 0, fmt.Errorf("speaks of more than %d steps", MaxSteps)
	}
	p.r.Steps = append(steps, Load{Step: name})
	return len(steps), nil
}

func (p *parser) count(to *int, name, value string) error {
	v, err := number(name, value, MaxCount)
	*to = int(v)
	return err
}

func (p *parser) time(to *time.Duration, name, value string) error {
	v, err := number(name, value, MaxTime.Seconds())
	*to = time.Duration(v * float64(time.Second))
	return err
}

// number reads a number from 0 to most. NaN is in no range.
func number(name, value string, most float64) (float64, error) {
	v, err := strconv.ParseFloat(value, 64)
	if err != nil || !(v >= 0 && v <= most) {
		return 0, fmt.Errorf("has %.80s:%.40s, want a number from 0 to %g", name, value, most)
	}
	return v, nil
}
