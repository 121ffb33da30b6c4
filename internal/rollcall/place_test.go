package rollcall

import (
	"slices"
	"strings"
	"testing"
)

// fakeStocks are those of a dispatcher which the test holds.
type fakeStocks struct {
	backends map[string]string
	place    Place
	joined   bool
}

func (f *fakeStocks) Backends() map[string]string { return f.backends }
func (f *fakeStocks) Storing() []string           { return []string{"s3-1"} }
func (f *fakeStocks) Place(log string) (Place, bool) {
	return f.place, f.joined && log == "n/c"
}

func TestAReplicaIsAtAPlaceOnlyOnceItHasJoinedIt(t *testing.T) {
	f, stocks := &fakeTable{}, &fakeStocks{backends: map[string]string{"a": "", "b": "refused"}, place: Place{Home: "a"}}
	r := NewRoll(f)
	r.Stocks = stocks
	to := Place{Home: "a", Next: "b"}
	want := func(part string) {
		t.Helper()
		why := call(t, r).At("n/c", "u", to)
		if part == "" && why != "" || !strings.Contains(why, part) {
			t.Errorf("why is %q, want %q", why, part)
		}
	}
	want("") // it does not work with the channel at all
	f.applyObserved(r, one("u", map[string]int64{"a": 1}))
	want("cannot use backend b: refused")
	stocks.backends["b"] = ""
	want("has yet to learn where the log is")
	stocks.place = to
	want("has yet to join")
	stocks.joined = true
	want("")
	a := call(t, r)
	if a.Uses("a") != "" || a.Uses("c") != "has yet to open backend c" || !a.Stores("s3-1") || a.Stores("s3-2") {
		t.Errorf("got %+v", a)
	}
	if a.At("n/c", "another", to) != "" {
		t.Error("another channel of the name is where this one is")
	}
	if !to.Moving() || (Place{Home: "a"}).Moving() || !(Place{Home: "a", Former: []string{"b"}}).Moving() || to.Equal(Place{Home: "a"}) {
		t.Error("places are compared wrongly")
	}
	if got := append(slices.Clone(a.Channels["n/c"].Place.Former), a.Channels["n/c"].Place.Next); !slices.Equal(got, []string{"b"}) {
		t.Errorf("the place came back as %+v", a.Channels["n/c"].Place)
	}
}

func TestAChannelIsSharedUnlessTheTableSaysOtherwise(t *testing.T) {
	f := &fakeTable{}
	r := NewRoll(f)
	if !call(t, r).Shares("n/c", "u") {
		t.Error("one that is not known has its payloads deleted")
	}
	f.applyObserved(r, entries{"n/c": {UID: "u", Subscriptions: map[string]int64{"a": 1}}})
	if call(t, r).Shares("n/c", "u") {
		t.Error("it is said to be shared")
	}
	f.applyObserved(r, entries{"n/c": {UID: "u", Shared: true, Subscriptions: map[string]int64{"a": 1}}})
	if !call(t, r).Shares("n/c", "u") {
		t.Error("it is said not to be shared")
	}
}
