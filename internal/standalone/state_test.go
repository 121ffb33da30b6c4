package standalone

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
)

func mustOpen(t *testing.T, dir string) *state {
	t.Helper()
	s, err := openState(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStateComesBackAsItWas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if len(s.Key) != 32 {
		t.Errorf("the key has %d bytes, want 32", len(s.Key))
	}
	most := time.Minute
	s.uid("Subscription", "ns", "a")
	s.Deadlines["ns/c"] = time.Now().Round(0)
	s.Table = channel.Table{Channels: []*channel.Channel{{
		Namespace: "ns", Name: "c", Hosts: []string{"h"}, URL: "http://c", Ordered: true, Draining: true, ShortCircuit: channel.Always,
		Subscriptions: []*channel.Subscription{{
			UID: "u", Namespace: "ns", Name: "s",
			Subscriber: &egress.Target{URL: "http://s", CACerts: "pem"},
			Reply:      &channel.Destination{Channel: "ns/d"},
			DeadLetter: &channel.Destination{Target: egress.Target{URL: "http://dls"}},
			Policy: egress.Policy{
				Retry: 3, Timeout: time.Second, Backoff: egress.Linear, Delay: time.Millisecond,
				RetryAfterMax: &most, Format: egress.Structured,
			},
		}},
	}}}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	got := mustOpen(t, dir)
	if !got.Deadlines["ns/c"].Equal(s.Deadlines["ns/c"]) {
		t.Errorf("the deadline came back as %v, want %v", got.Deadlines, s.Deadlines)
	}
	got.Deadlines, s.Deadlines = nil, nil
	if !reflect.DeepEqual(got, s) {
		t.Errorf("got %+v, want %+v", got, s)
	}
}

// A UID names a group: an object that gets another one loses its position.
func TestUIDIsTheSameAfterARestartAndForNobodyElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	seen := map[string]string{}
	for _, o := range [][3]string{
		{"Subscription", "ns", "a"}, {"Subscription", "ns", "b"}, {"Subscription", "other", "a"}, {"Channel", "ns", "a"},
	} {
		uid := s.uid(o[0], o[1], o[2])
		if uid == "" || seen[uid] != "" || s.uid(o[0], o[1], o[2]) != uid {
			t.Errorf("%v has the UID %q", o, uid)
		}
		seen[uid] = o[2]
	}
	a := s.uid("Subscription", "ns", "a")
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, dir)
	if got := again.uid("Subscription", "ns", "a"); got != a {
		t.Errorf("after a restart the UID is %s, was %s", got, a)
	}
	again.forget(a)
	if got := again.uid("Subscription", "ns", "a"); got == a {
		t.Error("an object made after another of its name was removed has that one's position")
	}
}

func TestStateThatCannotBeReadIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ content, want string }{
		"empty":                          {"", "unexpected end"},
		"cut short":                      {`{"version":1,"key":"AAAA`, "unexpected end"},
		"not JSON":                       {"hello", "invalid character"},
		"another type":                   {`{"version":1,"uids":[]}`, "uids"},
		"newer":                          {`{"version":2}`, "version 2, this program knows 1"},
		"newer, and of another shape":    {`{"version":7,"table":[],"uids":"x"}`, "version 7, this program knows 1"},
		"of no version":                  {`{}`, "version 0"},
		"of no version, with other keys": {`{"a":1}`, "version 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, stateFile)
			if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := openState(dir)
			if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error that names %s and says %q", err, file, tt.want)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != tt.content {
				t.Errorf("the file holds %q, %v", got, err)
			}
		})
	}
}

func TestStateThatCannotBeSavedLeavesTheOldOne(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir)
	before, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.uid("Subscription", "ns", "a")
	s.path = filepath.Join(dir, "missing", stateFile)
	if err := s.save(); err == nil || !strings.Contains(err.Error(), "save state") {
		t.Errorf("got %v, want an error that says what failed", err)
	}
	after, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed (%v)", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v; want the state alone", entries, err)
	}
}

// Kafka takes a process that was started again for the one that it was, and for no other.
func TestAProcessIsTheSameToABrokerAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	instance := func(s *state, id string) string { return (&brokers{state: s}).instance(id) }
	first := instance(mustOpen(t, dir), "kafka-1")
	if again := instance(mustOpen(t, dir), "kafka-1"); again != first {
		t.Errorf("after a restart it is %s, was %s", again, first)
	}
	for _, other := range []string{instance(mustOpen(t, dir), "kafka-2"), instance(mustOpen(t, t.TempDir()), "kafka-1")} {
		if other == first || other == "" {
			t.Errorf("another one, or at another broker: %q", other)
		}
	}
}
