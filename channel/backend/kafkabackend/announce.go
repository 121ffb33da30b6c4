package kafkabackend

import "slices"

// announce tells a new peer of our groups.
func (f *fleet) announce() {
	m := message{Kind: msgAnnounce}
	for g := range f.peers[f.me].groups {
		m.Groups = append(m.Groups, g)
	}
	for g, who := range f.owed {
		for range who[f.me] {
			m.Owed = append(m.Owed, g)
		}
	}
	f.say(m)
}

// undo remembers what a peer ended that may come in its announcement still.
func (f *fleet) undo(p *peer, kind, group string, offset int64) {
	if p.announced {
		return
	}
	if p.undone == nil {
		p.undone = make(map[string][]int64)
	}
	p.undone[kind+group] = append(p.undone[kind+group], offset)
}

// announced: a peer has told what it is in. What it says is as of m.At.
func (f *fleet) announced(p *peer, m *message) {
	if p.announced || m.At < f.start {
		return
	}
	later := func(offset int64) bool { return offset > m.At }
	for g, who := range f.owed { // what we saw before is part of what it says
		if who[p.id] = slices.DeleteFunc(who[p.id], func(since int64) bool { return !later(since) }); len(who[p.id]) == 0 {
			delete(who, p.id)
		}
		if len(who) == 0 {
			delete(f.owed, g)
		}
	}
	for _, g := range m.Groups {
		if !slices.ContainsFunc(p.undone[msgExit+g], later) {
			f.enter(p, g)
		}
	}
	for _, g := range m.Owed {
		if i := slices.IndexFunc(p.undone[msgFinal+g], later); i >= 0 {
			p.undone[msgFinal+g] = slices.Delete(p.undone[msgFinal+g], i, i+1)
		} else {
			f.owe(g, p.id)
		}
	}
	p.announced, p.undone = true, nil
	f.settle()
}
