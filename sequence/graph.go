package sequence

// MaxChain bounds a chain, in steps.
const MaxChain = 64

// Hop is a Subscription as a Graph sees it. Channels and subscriptions are
// named as the caller likes, as long as no two share a name.
type Hop struct {
	// Subscription names the hop.
	Subscription string
	// Channel is the channel that it reads.
	Channel string
	// Reply is the channel that its answers go to, "" when they go
	// elsewhere or nowhere.
	Reply string
}

// Graph tells which step follows which. It does not change once it was made.
type Graph struct {
	next map[string]string
}

// NewGraph links hops: the one that follows is the only Subscription of the
// channel that a hop replies to. Two Subscriptions there, or none, end it, as
// does a channel that the caller keeps out of chains: through, unless nil, is
// asked once for each channel that has exactly one Subscription.
func NewGraph(hops []Hop, through func(channel string) bool) *Graph {
	only := make(map[string]string, len(hops)) // by channel; "" for several
	for _, h := range hops {
		if _, several := only[h.Channel]; several {
			only[h.Channel] = ""
			continue
		}
		only[h.Channel] = h.Subscription
	}
	for c, s := range only {
		if s != "" && through != nil && !through(c) {
			only[c] = ""
		}
	}
	g := &Graph{next: make(map[string]string, len(hops))}
	for _, h := range hops {
		if next := only[h.Reply]; h.Reply != "" && next != "" {
			g.next[h.Subscription] = next
		}
	}
	return g
}

// Next is the step that follows, "" if there is none or no single one.
func (g *Graph) Next(subscription string) string { return g.next[subscription] }

// Chain is the steps that follow one another without a choice from the one
// given, which comes first. It names each Subscription once, also where the
// channels form a circle, and no more than MaxChain of them. The caller owns
// the slice.
func (g *Graph) Chain(first string) []string {
	chain := []string{first}
	seen := map[string]bool{first: true}
	for len(chain) < MaxChain {
		next := g.next[chain[len(chain)-1]]
		if next == "" || seen[next] {
			break
		}
		seen[next] = true
		chain = append(chain, next)
	}
	return chain
}
