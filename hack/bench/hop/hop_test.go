package main

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test binary be the children that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childArg {
		exit(runRole(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// smoke measures contenders in one round with few events.
func smoke(t *testing.T, list string) results {
	t.Helper()
	wanted, err := choose(list)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{dir: t.TempDir(), loads: quickLoads(), progress: io.Discard}
	if err := b.build(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	r, err := b.rounds(t.Context(), wanted, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, failure := range r.failures {
		t.Error(failure)
	}
	return r
}

// wantMeasured fails if a measure of a contender is absent or no sound number.
func wantMeasured(t *testing.T, r results, name string, measures ...measure) {
	t.Helper()
	for _, m := range measures {
		v := r.values[key{name, m}]
		if len(v) != 1 || !(v[0] > 0) || math.IsInf(v[0], 0) {
			t.Errorf("%s, %s: got %v, want a positive number", name, m, v)
		}
	}
}

func TestEveryHandWrittenContenderCarriesEveryEventUnaltered(t *testing.T) {
	t.Parallel()
	flow := []string{netHTTP, fastHTTP, direct, storeLoop}
	ingress := []string{accept, storePublish, storeRemote, storeIngress}
	r := smoke(t, strings.Join(slices.Concat(flow, ingress), ","))
	// Processor time is not asked for: so few events may cost less than a tick.
	for _, name := range flow {
		wantMeasured(t, r, name, hopP50, hopP99, perSecond)
	}
	for _, name := range ingress {
		wantMeasured(t, r, name, perSecond, answerP50, answerP99)
	}
	wantMeasured(t, r, netHTTP, peakRSS)
}

func TestSidestepCarriesEveryEventUnaltered(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the dispatcher")
	}
	t.Parallel()
	r := smoke(t, strings.Join([]string{sidestepAlways, sidestepNever, colocated, sidestepIngress}, ","))
	for _, name := range []string{sidestepAlways, sidestepNever, colocated} {
		wantMeasured(t, r, name, hopP50, hopP99, perSecond, peakRSS, allocs)
	}
	wantMeasured(t, r, sidestepIngress, perSecond, answerP50, allocs)
}

func TestNothingIsLeftOfAMeasurement(t *testing.T) {
	t.Parallel()
	wanted, err := choose(storeIngress)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{dir: t.TempDir(), loads: quickLoads(), progress: io.Discard}
	if _, err := b.sample(t.Context(), wanted[0]); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(b.dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestAContenderThatFailsDoesNotKeepTheOthersFromBeingMeasured(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	wanted, err := choose(netHTTP)
	if err != nil {
		t.Fatal(err)
	}
	wanted = append(wanted, contender{name: "other", measure: func(context.Context, *bench, string) (sample, error) {
		return nil, broken
	}})
	b := &bench{dir: t.TempDir(), loads: quickLoads(), progress: io.Discard}
	r, err := b.rounds(t.Context(), wanted, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.failures) != 1 || !errors.Is(r.failures[0], broken) {
		t.Errorf("got failures %v, want the one", r.failures)
	}
	wantMeasured(t, r, netHTTP, hopP50)
}

func TestOnlyKnownContendersAreChosenAndInTheReportsOrder(t *testing.T) {
	t.Parallel()
	got, err := choose("sidestep-always,nethttp")
	if want := []string{netHTTP, sidestepAlways}; err != nil || !slices.Equal(names(got), want) {
		t.Errorf("got %v, %v, want %v", names(got), err, want)
	}
	if _, err := choose("nethttp,teleport"); err == nil || !strings.Contains(err.Error(), "teleport") {
		t.Errorf("got %v, want an error that names the stranger", err)
	}
	if got, err := choose(""); err != nil || len(got) != len(contenders()) {
		t.Errorf("nothing asked for: got %d, %v, want all", len(got), err)
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-rounds", "0"},
		{"-profile-load", "none"},
		{"-profile-for", "1ms"},
		{"-nonsense"},
		{"stray"},
	} {
		if _, err := parse(args, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%v: got %v, want a usage error", args, err)
		}
	}
	if o, err := parse(nil, io.Discard); err != nil || o.rounds != 10 {
		t.Errorf("no options: got %+v, %v, want 10 rounds", o, err)
	}
}

func TestTheAdminAddressIsFoundInTheLog(t *testing.T) {
	t.Parallel()
	log := "time=2025-01-02T03:04:05Z level=INFO msg=opening admin=no\n" +
		"time=2025-01-02T03:04:05Z level=INFO msg=serving events=127.0.0.1:41 admin=127.0.0.1:42\n"
	if got := adminOf(log); got != "127.0.0.1:42" {
		t.Errorf("got %q", got)
	}
	if got := adminOf("msg=starting admin=x"); got != "" {
		t.Errorf("before it serves: got %q, want none", got)
	}
}

func TestASequenceHasAllItsStepsInOrder(t *testing.T) {
	t.Parallel()
	y := sequenceYAML("Never", []string{"http://h/1", "http://h/2"})
	one, two := strings.Index(y, `uri: "http://h/1"`), strings.Index(y, `uri: "http://h/2"`)
	if one < 0 || two < one || !strings.Contains(y, "shortCircuit: Never") {
		t.Errorf("got\n%s", y)
	}
}
