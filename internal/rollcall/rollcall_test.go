package rollcall

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeTable is a dispatcher whose tables the test holds.
type fakeTable struct {
	epoch, observed uint64
	broken          map[string]error
}

func (f *fakeTable) Epoch() uint64              { return f.epoch }
func (f *fakeTable) Observed() uint64           { return f.observed }
func (f *fakeTable) Receiving(uid string) error { return f.broken[uid] }
func (f *fakeTable) apply(r *Roll, e entries)   { f.epoch++; r.Applied(f.epoch, e) }
func (f *fakeTable) applyObserved(r *Roll, e entries) {
	f.apply(r, e)
	f.observed = f.epoch
}

type entries = map[string]Entry

func one(uid string, subs map[string]int64) entries {
	return entries{"n/c": {UID: uid, Subscriptions: subs}}
}

// call asks over HTTP, as the controller does.
func call(t *testing.T, r *Roll) *Answer {
	t.Helper()
	s := httptest.NewServer(r)
	defer s.Close()
	a, err := Caller{Client: s.Client()}.Call(context.Background(), strings.TrimPrefix(s.URL, "http://"), &Call{Channels: []string{"n/c"}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestASubscriptionIsThereOnlyOnceNothingWorksFromATableWithoutIt(t *testing.T) {
	f := &fakeTable{}
	r := NewRoll(f)
	want := func(part string) {
		t.Helper()
		why := call(t, r).Has("n/c", "u", "b", 2)
		if part == "" && why != "" || !strings.Contains(why, part) {
			t.Errorf("why is %q, want %q", why, part)
		}
	}
	want("does not know the channel")
	f.applyObserved(r, one("other", map[string]int64{"b": 2}))
	want("does not know the channel") // it is another one of the same name
	f.applyObserved(r, one("u", map[string]int64{"a": 1}))
	want("does not know the subscription")
	f.applyObserved(r, one("u", map[string]int64{"a": 1, "b": 1}))
	want("does not know the subscription") // an older generation of it
	f.apply(r, one("u", map[string]int64{"b": 2}))
	want("under way")
	f.observed = f.epoch
	want("")
	f.apply(r, one("u", map[string]int64{"b": 2})) // some other channel has changed
	want("")
	f.broken = map[string]error{"b": errors.New("the group is gone")}
	want("the group is gone")
}

func TestAChannelIsGoneOnlyOnceNothingWorksFromATableWithIt(t *testing.T) {
	f := &fakeTable{}
	r := NewRoll(f)
	f.applyObserved(r, one("u", map[string]int64{"a": 1, "b": 1}))
	if a := call(t, r); a.Without("n/c", "u", "") || a.Without("n/c", "u", "b") || a.Closed("n/c", "u") {
		t.Error("a channel in the table is said to be gone")
	}
	f.apply(r, one("u", map[string]int64{"a": 1}))
	if call(t, r).Without("n/c", "u", "b") {
		t.Error("a subscription is said to be gone while an older table is in use")
	}
	f.observed = f.epoch
	if a := call(t, r); !a.Without("n/c", "u", "b") || a.Without("n/c", "u", "a") {
		t.Error("the subscription that is gone is not said to be, or the other is")
	}
	f.apply(r, entries{"n/c": {UID: "u", Draining: true, Subscriptions: map[string]int64{"a": 1}}})
	if call(t, r).Closed("n/c", "u") {
		t.Error("closed while a table is in use in which it was open")
	}
	f.observed = f.epoch
	if !call(t, r).Closed("n/c", "u") {
		t.Error("not closed")
	}
	f.apply(r, entries{})
	if call(t, r).Without("n/c", "u", "") {
		t.Error("a channel is said to be gone while an older table is in use")
	}
	f.observed = f.epoch
	if !call(t, r).Without("n/c", "u", "") {
		t.Error("not gone")
	}
}

func TestWhatCannotBeAnsweredIsRefused(t *testing.T) {
	r := NewRoll(&fakeTable{})
	tests := []struct {
		method, body string
		want         int
	}{
		{http.MethodGet, "", http.StatusMethodNotAllowed},
		{http.MethodPost, "x", http.StatusBadRequest},
		{http.MethodPost, `{"channels":[` + strings.Repeat(`"a/b",`, MaxChannels) + `"a/b"]}`, http.StatusBadRequest},
		{http.MethodPost, `{"channels":["` + strings.Repeat("x", maxCallBytes) + `"]}`, http.StatusBadRequest},
		{http.MethodPost, `{"channels":["a/b"]}`, http.StatusOK},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(tt.method, Path, strings.NewReader(tt.body)))
		if w.Code != tt.want {
			t.Errorf("%s of %d bytes: %d, want %d", tt.method, len(tt.body), w.Code, tt.want)
		}
	}
}

func TestACallerSaysWhatWentWrong(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	_, err := Caller{Client: s.Client()}.Call(context.Background(), strings.TrimPrefix(s.URL, "http://"), &Call{})
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v", err)
	}
}
