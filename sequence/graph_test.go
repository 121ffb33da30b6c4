package sequence_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/sequence"
)

// hops reads lines of "subscription: channel -> reply".
func hops(text string) []sequence.Hop {
	var hs []sequence.Hop
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.NewReplacer(":", " ", "->", " ").Replace(line))
		h := sequence.Hop{Subscription: f[0], Channel: f[1]}
		if len(f) > 2 {
			h.Reply = f[2]
		}
		hs = append(hs, h)
	}
	return hs
}

func TestChain(t *testing.T) {
	not := func(name string) func(string) bool { return func(c string) bool { return c != name } }
	tests := []struct {
		name    string
		hops    string
		through func(string) bool
		from    string
		want    string
	}{
		{name: "steps follow one another to the last", hops: "a: 0 -> 1\nb: 1 -> 2\nc: 2", from: "a", want: "a b c"},
		{name: "a chain begins where it is asked for", hops: "a: 0 -> 1\nb: 1 -> 2\nc: 2", from: "b", want: "b c"},
		{name: "two subscriptions on a channel end it", hops: "a: 0 -> 1\nb: 1\nc: 1", from: "a", want: "a"},
		{name: "three subscriptions on a channel end it", hops: "a: 0 -> 1\nb: 1\nc: 1\nd: 1", from: "a", want: "a"},
		{name: "no subscription on a channel ends it", hops: "a: 0 -> 1", from: "a", want: "a"},
		{name: "a reply to elsewhere ends it", hops: "a: 0 -> x\nb: 1", from: "a", want: "a"},
		{name: "a channel that is kept out ends it", hops: "a: 0 -> 1\nb: 1 -> 2\nc: 2", through: not("2"), from: "a", want: "a b"},
		{name: "a circle names each subscription once", hops: "a: 0 -> 1\nb: 1 -> 0", from: "b", want: "b a"},
		{name: "a step that replies to itself runs once", hops: "a: 0 -> 0", from: "a", want: "a"},
		{name: "a circle that is entered from outside", hops: "a: 0 -> 1\nb: 1 -> 2\nc: 2 -> 1", from: "a", want: "a b c"},
		{name: "the branches of a fork have chains of their own", hops: "f: 0 -> 1\ng: 0 -> 2\nx: 1\ny: 2", from: "g", want: "g y"},
		{name: "a subscription that is not in the graph is alone", hops: "a: 0 -> 1", from: "z", want: "z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := sequence.NewGraph(hops(tt.hops), tt.through).Chain(tt.from)
			if want := strings.Fields(tt.want); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestAChainHasAtMost64Steps(t *testing.T) {
	var hs []sequence.Hop
	for i := range 100 {
		hs = append(hs, sequence.Hop{Subscription: "s" + strconv.Itoa(i), Channel: strconv.Itoa(i), Reply: strconv.Itoa(i + 1)})
	}
	g := sequence.NewGraph(hs, nil)
	if got := g.Chain("s0"); len(got) != sequence.MaxChain || got[63] != "s63" {
		t.Errorf("got %d steps to %s", len(got), got[len(got)-1])
	}
	if got := g.Chain("s90"); len(got) != 10 {
		t.Errorf("got %d steps from s90, want 10", len(got))
	}
	if g.Next("s98") != "s99" || g.Next("s99") != "" {
		t.Errorf("s99 follows s98 and nothing follows s99; got %q, %q", g.Next("s98"), g.Next("s99"))
	}
}
