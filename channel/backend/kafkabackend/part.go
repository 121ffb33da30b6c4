package kafkabackend

// part is what this process is in a group. Like the roster it has no clock and
// sends nothing: what is to be done comes back as duties.
//
//	out --enter--> entering --> in --resign--> resigning --> resigned --exit--> exiting --> out
//	                             \----------- exit, if it does not lead ----------/
//
// A group's leader reads the log and commits its positions, at a desk. Its term
// begins at the offset of the message that made it the leader, and ends with one
// that makes it another. What holds for terms that follow each other:
//
//   - A member says hello to the leader once in a term, and not before all desks
//     that it had in earlier ones have committed for the last time.
//   - A member exits not before its desks have. A leader therefore resigns
//     first: it is still a member then, but not the leader.
//   - A desk begins when all that were members when its term began have said
//     hello in it, have exited or were expelled, and its own process's former
//     desks have committed.
//
// So there is one desk at a time that has begun and not committed for the last
// time, but for those of processes that were expelled, which know by the time
// (fleet.holding). Whoever waits for a hello too long expels the debtor.
type part struct {
	status  partStatus
	me      string
	leader  string
	since   int64           // the leader's term began, or our part in it, at this offset
	leading bool            // we have a desk
	begun   bool            // and it has begun
	awaited map[string]bool // whose hello it waits for
	waited  int             // beats of ours meanwhile
	greeted bool            // the leader, another one, has our hello
	open    int             // former desks of ours that have not committed for the last time
}

// partStatus is what the other processes know of our being a member.
type partStatus int

const (
	out       partStatus = iota
	entering             // said, and not read yet
	in                   //
	resigning            // said
	resigned             // a member that must not lead
	exiting              // said
)

// duties are what is to be done now, in this order.
type duties uint

const (
	doRetire duties = 1 << iota // end the desk; tell finished when it has committed
	doLead                      // have a new desk, that waits
	doBegin                     // have it load the positions and begin
	doGreet                     // say hello
	doResign                    // say so
	doExit                      // say so
	doEnter                     // say so
)

// change takes in that a group's members are others.
func (p *part) change(c *change) (do duties) {
	before := p.leader
	p.leader = c.leader
	switch {
	case c.entered == p.me && p.status == entering:
		p.status = in
	case c.resigned == p.me && p.status == resigning:
		p.status = resigned
	case c.exited == p.me:
		p.status = out
	}
	if p.leading && c.leader != p.me {
		p.leading, p.begun, p.awaited = false, false, nil
		p.open++
		do |= doRetire
	}
	switch {
	case c.leader == p.me && p.leading:
		delete(p.awaited, c.exited)
	case c.leader == p.me && p.status == in:
		p.since, p.leading, p.waited, p.greeted = c.at, true, 0, false
		p.awaited = make(map[string]bool)
		for id := range c.members {
			if id != p.me {
				p.awaited[id] = true
			}
		}
		do |= doLead
	case c.leader != before || c.entered == p.me:
		p.since, p.greeted = c.at, false
	}
	return do | p.progress()
}

// progress does what was waited for, if it is there.
func (p *part) progress() (do duties) {
	if p.status != in && p.status != resigning || p.open > 0 {
		return 0
	}
	if p.leading && !p.begun && len(p.awaited) == 0 {
		p.begun = true
		do |= doBegin
	}
	if !p.greeted && p.leader != "" && p.leader != p.me {
		p.greeted = true
		do |= doGreet
	}
	return do
}

// hears reports whether what a member says to the leader is for us, in this term.
func (p *part) hears(at int64) bool { return p.leading && at >= p.since }

// hello: a member has said it, for us in this term.
func (p *part) hello(from string) duties {
	delete(p.awaited, from)
	return p.progress()
}

// finished: a former desk of ours has committed.
func (p *part) finished() duties {
	p.open--
	return p.progress()
}

// wish enters or exits. wanted: there is something to be a member for.
func (p *part) wish(wanted bool) duties {
	switch {
	case wanted && p.status == out:
		p.status = entering
		return doEnter
	case !wanted && p.leading && p.status == in:
		p.status = resigning
		return doResign
	case p.open > 0:
	case p.status == resigned, !wanted && (p.status == in || p.status == entering):
		p.status = exiting
		return doExit
	}
	return 0
}

// beaten counts our beats while we wait for others, and names those to be
// expelled: they live, but what they owe does not come.
func (p *part) beaten() (expel []string) {
	if !p.leading || p.begun || len(p.awaited) == 0 {
		return nil
	}
	if p.waited++; p.waited < mostOwed {
		return nil
	}
	p.waited = 0
	for id := range p.awaited {
		expel = append(expel, id)
	}
	return expel
}

// reset: we are another one now, and in no group.
func (p *part) reset(me string) {
	*p = part{me: me, open: p.open}
}

// member tells others what we have said that we are.
func (p *part) member() (member, mayLead bool) {
	switch p.status {
	case entering, in:
		return true, true
	case resigning, resigned:
		return true, false
	}
	return false, false
}
