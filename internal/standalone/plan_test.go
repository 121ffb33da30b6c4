package standalone

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
)

// picture draws a table: "c0[u0] -c1[u1]" where "-" is draining.
func picture(s *state, t *channel.Table) string {
	var parts []string
	for _, c := range t.Channels {
		var subs []string
		for _, sub := range c.Subscriptions {
			mark := ""
			if _, drains := s.Deadlines[sub.UID]; drains {
				mark = "-"
			}
			subs = append(subs, mark+sub.UID)
		}
		mark := ""
		if c.Draining {
			mark = "-"
		}
		if _, drains := s.Deadlines[c.Log().Name]; drains != c.Draining {
			mark = "?"
		}
		parts = append(parts, fmt.Sprintf("%s%s%v", mark, c.Name, subs))
	}
	return strings.Join(parts, " ")
}

// ch is a channel in which the subscriptions have the UIDs given.
func ch(name string, uids ...string) *channel.Channel {
	c := &channel.Channel{Namespace: "ns", Name: name}
	for _, u := range uids {
		c.Subscriptions = append(c.Subscriptions, &channel.Subscription{UID: u, Namespace: "ns", Name: "name-of-" + u})
	}
	return c
}

func TestPlanKeepsWhatIsNoLongerWantedUntilItHasDrained(t *testing.T) {
	t.Parallel()
	type edit []*channel.Channel
	tests := []struct {
		name  string
		edits []edit
		want  string
	}{
		{"first", []edit{{ch("a", "x")}}, "a[x]"},
		{"added", []edit{{ch("a", "x")}, {ch("a", "x"), ch("b", "y")}}, "a[x] b[y]"},
		{"channel removed", []edit{{ch("a", "x"), ch("b", "y")}, {ch("a", "x")}}, "a[x] -b[y]"},
		{"all removed", []edit{{ch("a", "x"), ch("b", "y")}, {}}, "-a[x] -b[y]"},
		{"removed for two edits", []edit{{ch("a", "x")}, {}, {ch("b", "y")}}, "b[y] -a[x]"},
		{"subscription removed", []edit{{ch("a", "x", "y")}, {ch("a", "x")}}, "a[x -y]"},
		{"subscription removed, channel next", []edit{{ch("a", "x", "y")}, {ch("a", "x")}, {}}, "-a[x -y]"},
		{"channel is back", []edit{{ch("a", "x")}, {}, {ch("a", "x")}}, "a[x]"},
		{"channel is back, with another step", []edit{{ch("a", "x")}, {}, {ch("a", "y")}}, "a[y -x]"},
		{"subscription is back", []edit{{ch("a", "x", "y")}, {ch("a", "x")}, {ch("a", "x", "y")}}, "a[x y]"},
		{"subscription replaced", []edit{{ch("a", "x")}, {ch("a", "y")}}, "a[y -x]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &state{Deadlines: map[string]time.Time{}}
			for _, e := range tt.edits {
				next, err := s.plan(&channel.Table{Channels: e}, time.Now(), time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				s.Table = *next
			}
			if got := picture(s, &s.Table); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// The dispatcher works from tables that were planned before.
func TestPlanChangesNoTableThatWasApplied(t *testing.T) {
	t.Parallel()
	s := &state{Deadlines: map[string]time.Time{}}
	first, err := s.plan(&channel.Table{Channels: []*channel.Channel{ch("a", "x", "y"), ch("b", "z")}}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Table = *first
	want := &channel.Table{Channels: []*channel.Channel{ch("a", "x")}}
	if _, err := s.plan(want, time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	if got := []*channel.Channel{ch("a", "x", "y"), ch("b", "z")}; !reflect.DeepEqual(first.Channels, got) {
		t.Error("the table that was applied has changed")
	}
	if got := []*channel.Channel{ch("a", "x")}; !reflect.DeepEqual(want.Channels, got) {
		t.Error("the table that was wanted has changed")
	}
}

func TestWhatCannotChangeIsRefusedWithAWayOut(t *testing.T) {
	t.Parallel()
	ordered := ch("a", "x")
	ordered.Ordered = true
	tests := []struct {
		name string
		now  []*channel.Channel
		want []string
	}{
		{"ordering", []*channel.Channel{ordered}, []string{"ns/a", "spec.ordering", "remove the channel"}},
		{"channel of a subscription", []*channel.Channel{ch("a"), ch("b", "x")}, []string{"ns/name-of-x", "spec.channel", "ns/a", "ns/b", "remove the subscription"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &state{Deadlines: map[string]time.Time{}, Table: channel.Table{Channels: []*channel.Channel{ch("a", "x")}}}
			_, err := s.plan(&channel.Table{Channels: tt.now}, time.Now(), 0)
			if err == nil {
				t.Fatal("it was planned")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestRemovalsAreWholeChannelsOrSingleSubscriptions(t *testing.T) {
	t.Parallel()
	at := time.Now()
	s := &state{
		Deadlines: map[string]time.Time{"ns/a": at, "x": at, "z": at},
		Table:     channel.Table{Channels: []*channel.Channel{ch("a", "x", "y"), ch("b", "z"), ch("c", "w")}},
	}
	var got []string
	for _, r := range s.removals() {
		got = append(got, r.String())
	}
	if want := []string{"channel ns/a", "subscription ns/name-of-z"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
