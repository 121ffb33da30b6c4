package sequence

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// ErrDuration is wrapped by every error of ParseDuration.
var ErrDuration = errors.New("not an ISO 8601 duration such as PT0.5S, PT2M or P1DT12H")

// The lengths that Knative gives to the units whose length depends on the
// date: a year has the average length of a Gregorian one, a month a twelfth of
// it, and a day 24 hours.
const (
	day   = 24 * time.Hour
	month = 2629746 * time.Second // 30.436875 days
	year  = 12 * month
)

type unit struct {
	mark   byte
	length time.Duration
}

// dateUnits and timeUnits are in the order in which a duration names them.
func dateUnits() []unit { return []unit{{'Y', year}, {'M', month}, {'W', 7 * day}, {'D', day}} }

func timeUnits() []unit {
	return []unit{{'H', time.Hour}, {'M', time.Minute}, {'S', time.Second}}
}

// ParseDuration reads a duration of Knative's DeliverySpec: ISO 8601, not
// negative, with a decimal fraction (of '.' or ',') in any of its fields.
// Every string that it takes is one that Knative takes, too; Knative keeps one
// digit of a fraction, ParseDuration all that fit into nanoseconds.
func ParseDuration(s string) (time.Duration, error) {
	fail := func(why string) (time.Duration, error) {
		return 0, fmt.Errorf("%q is %w: %s", s, ErrDuration, why)
	}
	rest, ok := strings.CutPrefix(s, "P")
	if !ok {
		return fail("it does not begin with P")
	}
	if rest == "0" { // a form of zero that Knative takes
		return 0, nil
	}
	date, clock, timed := strings.Cut(rest, "T")
	if date == "" && clock == "" || timed && clock == "" {
		return fail("it names no length")
	}
	total := new(big.Rat)
	if why := addFields(total, date, dateUnits()); why != "" {
		return fail(why)
	}
	if why := addFields(total, clock, timeUnits()); why != "" {
		return fail(why)
	}
	nanos := new(big.Int).Quo(total.Num(), total.Denom())
	if !nanos.IsInt64() {
		return fail("it is longer than 292 years")
	}
	return time.Duration(nanos.Int64()), nil
}

// addFields adds what s names in the units given, which come in that order and
// at most once each. It returns what is wrong, or "".
func addFields(total *big.Rat, s string, units []unit) string {
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' && r != ',' })
		if n < 0 {
			return fmt.Sprintf("there is no unit after %q", s)
		}
		if n > maxDigits {
			return "it has too many digits"
		}
		digits := strings.Replace(s[:n], ",", ".", 1)
		amount, ok := new(big.Rat), digits != "" && digits[0] != '.' && digits[n-1] != '.'
		if ok {
			_, ok = amount.SetString(digits)
		}
		if !ok {
			return fmt.Sprintf("there is no number before %q", s[n:])
		}
		for len(units) > 0 && units[0].mark != s[n] {
			units = units[1:]
		}
		if len(units) == 0 {
			return fmt.Sprintf("its unit %q is unknown or not in its place", s[n:n+1])
		}
		length := new(big.Rat).SetInt64(int64(units[0].length))
		total.Add(total, amount.Mul(amount, length))
		s, units = s[n+1:], units[1:]
	}
	return ""
}

// maxDigits of one field: more say nothing within 292 years and a nanosecond,
// and 18 are as many as Knative reads without its own overflow.
const maxDigits = 18
