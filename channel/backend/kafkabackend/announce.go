package kafkabackend

// announce tells a new peer of our groups.
func (f *fleet) announce() {
	m := message{Kind: msgAnnounce}
	for g := range f.peers[f.me].groups {
		m.Groups = append(m.Groups, g)
	}
	for g, who := range f.owed {
		if who[f.me] {
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
		p.undone = make(map[string]int64)
	}
	p.undone[kind+group] = offset
}

// announced: a peer has told what it is in. What it says is as of m.At.
func (f *fleet) announced(p *peer, m *message) {
	if p.announced || m.At < f.start {
		return
	}
	for _, g := range m.Groups {
		if at, ok := p.undone[msgExit+g]; !ok || at < m.At {
			f.enter(p, g)
		}
	}
	for _, g := range m.Owed {
		if at, ok := p.undone[msgFinal+g]; !ok || at < m.At {
			f.owe(g, p.id)
		}
	}
	p.announced, p.undone = true, nil
	f.settle()
}
