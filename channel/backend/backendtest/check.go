package backendtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// errNotYet keeps eventually waiting.
var errNotYet = errors.New("not yet")

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func wantNotError(t testing.TB, what string, err, not error) {
	t.Helper()
	if errors.Is(err, not) {
		t.Errorf("%s: error %v, which must not be %v", what, err, not)
	}
}

// ids are n different ones: "prefix-0", "prefix-1", ...
func ids(prefix string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return s
}

// wantSet checks that got holds the ids of want, each once, in any order.
func wantSet(t testing.TB, what string, got, want []string) {
	t.Helper()
	count := make(map[string]int)
	for _, id := range want {
		count[id]--
	}
	for _, id := range got {
		count[id]++
	}
	maps.DeleteFunc(count, func(_ string, n int) bool { return n == 0 })
	var missing, extra []string
	for _, id := range slices.Sorted(maps.Keys(count)) {
		if count[id] < 0 {
			missing = append(missing, id)
		} else {
			extra = append(extra, id)
		}
	}
	if len(count) > 0 {
		t.Errorf("%s: missing [%s], too many [%s]", what, strings.Join(missing, " "), strings.Join(extra, " "))
	}
}

func idsOf(ds []*backend.Delivery) []string {
	s := make([]string, len(ds))
	for i, d := range ds {
		s[i] = idOf(d)
	}
	return s
}

// wantLag waits until the group has n records to settle. Zero proves that
// nothing of it can ever come back.
func (f *fixture) wantLag(b backend.Backend, log, group string, n int64) backend.Lag {
	f.Helper()
	var lag backend.Lag
	f.eventually("Lag", func() (err error) {
		if lag, err = b.Lag(f.ctx(), log, group); err == nil && lag.Records != n {
			err = fmt.Errorf("group %s has %d records to settle, want %d", group, lag.Records, n)
		}
		return err
	})
	return lag
}
