package backendtest

import (
	"fmt"
	"strings"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

var adminProperties = []property{
	{"EnsureLog again does not make another log", ensureLogAgain},
	{"concurrent EnsureLog does not make two logs", ensureLogConcurrently},
	{"a log deleted and made again is not the same", logMadeAgain},
	{"other connections do not cling to a former log", otherConnections},
	{"deleting what is missing does not fail", deleteMissing},
	{"a group of a missing log cannot be made", groupOfMissingLog},
	{"limits do not change", limitsFixed},
	{"an empty broker has room for any log", roomForAny},
}

var nameProperties = []property{
	{"no two log names are one log", oddLogNames},
	{"no two group names are one group", oddGroupNames},
}

func (f *fixture) must(what string, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

func ensureLogAgain(f *fixture) {
	b, other := f.connect(), f.connect()
	l := backend.Log{Name: newName()}
	first := f.ensureLog(b, l)
	f.ensureGroups(b, l.Name, "g")
	f.publish(b, l.Name, "1")
	for _, b := range []backend.Backend{b, other, f.connect()} {
		if again := f.ensureLog(b, l); again != first {
			f.Errorf("incarnation %q, then %q", first, again)
		}
	}
	if again := f.ensureLog(other, backend.Log{Name: l.Name, Ordered: true}); again != first {
		f.Errorf("incarnation %q, then %q for asking for order", first, again)
	}
	if d := f.receive(f.subscribe(other, l.Name, "g")); idOf(d) != "1" {
		f.Errorf("received %s, want 1", idOf(d))
	}
}

func ensureLogConcurrently(f *fixture) {
	const n = 8
	ctx := f.ctx()
	log := newName()
	made := make(chan backend.Incarnation, n)
	errs := make(chan error, n)
	for range n / 2 {
		b := f.connect()
		for range 2 {
			go func() {
				i, err := b.EnsureLog(ctx, backend.Log{Name: log})
				if err == nil {
					err = b.EnsureGroup(ctx, log, backend.Group{Name: "g"})
				}
				made <- i
				errs <- err
			}()
		}
	}
	all := make(map[backend.Incarnation]bool)
	for range n {
		if err := <-errs; err != nil {
			f.Errorf("EnsureLog or EnsureGroup: %v", err)
		}
		all[<-made] = true
	}
	if len(all) != 1 {
		f.Errorf("%d incarnations of one log: %v", len(all), all)
	}
	b := f.connect()
	f.publish(b, log, "1")
	f.wantLag(b, log, "g", 1)
}

func logMadeAgain(f *fixture) {
	b := f.connect()
	seen := make(map[backend.Incarnation]bool)
	log := newName()
	for _, ordered := range []bool{false, true, false} {
		i := f.ensureLog(b, backend.Log{Name: log, Ordered: ordered})
		if seen[i] {
			f.Errorf("incarnation %q for a second time", i)
		}
		seen[i] = true
		_, err := b.Subscribe(f.ctx(), log, "g", backend.Options{})
		wantError(f, "Subscribe to the former log's group", err, backend.ErrNotFound)
		_, err = b.Lag(f.ctx(), log, "g")
		wantError(f, "Lag of the former log's group", err, backend.ErrNotFound)
		f.ensureGroups(b, log, "g")
		sub := f.subscribe(b, log, "g")
		f.fence(b, log, sub)
		f.publish(b, log, "unread")
		f.must("Seal", b.Seal(f.ctx(), log))
		f.must("DeleteLog", b.DeleteLog(f.ctx(), log))
	}
}

// otherConnections must notice that a log was replaced, sealed or deleted by
// somebody else, even if they remember something of it.
func otherConnections(f *fixture) {
	b, other := f.connect(), f.connect()
	log := f.log(b, false, "g")
	f.publish(other, log, "old")
	f.must("DeleteLog", b.DeleteLog(f.ctx(), log))
	wantError(f, "Publish to a log deleted elsewhere", other.Publish(f.ctx(), log, record("1")), backend.ErrNotFound)
	i := f.ensureLog(b, backend.Log{Name: log})
	f.ensureGroups(b, log, "g")
	f.publish(other, log, "new")
	if again := f.ensureLog(other, backend.Log{Name: log}); again != i {
		f.Errorf("incarnation %q here, %q there", i, again)
	}
	d := f.receive(f.subscribe(other, log, "g"))
	if idOf(d) != "new" || d.Incarnation != i {
		f.Errorf("received %s of %q, want new of %q", idOf(d), d.Incarnation, i)
	}
}

func deleteMissing(f *fixture) {
	b := f.connect()
	log := f.log(b, false, "g", "kept")
	for range 2 {
		f.must("DeleteLog of one never made", b.DeleteLog(f.ctx(), newName()))
		f.must("DeleteGroup of a missing log", b.DeleteGroup(f.ctx(), newName(), "g"))
		f.must("DeleteGroup of one never made", b.DeleteGroup(f.ctx(), log, "none"))
		f.must("DeleteGroup", b.DeleteGroup(f.ctx(), log, "g"))
	}
	_, err := b.Lag(f.ctx(), log, "g")
	wantError(f, "Lag of a deleted group", err, backend.ErrNotFound)
	f.fence(b, log, f.subscribe(b, log, "kept"))
	for range 2 {
		f.must("DeleteLog", b.DeleteLog(f.ctx(), log))
	}
}

func groupOfMissingLog(f *fixture) {
	b := f.connect()
	wantError(f, "EnsureGroup", b.EnsureGroup(f.ctx(), newName(), backend.Group{Name: "g"}), backend.ErrNotFound)
	wantError(f, "Seal", b.Seal(f.ctx(), newName()), backend.ErrNotFound)
}

func limitsFixed(f *fixture) {
	b := f.connect()
	want := b.Limits()
	if want.MaxRecordBytes <= 0 {
		f.Errorf("MaxRecordBytes is %d", want.MaxRecordBytes)
	}
	f.log(b, false)
	if got := b.Limits(); got != want {
		f.Errorf("limits %v, then %v", want, got)
	}
}

// roomForAny: Room is about space alone. That a log takes no records for another
// reason is for Publish to say.
func roomForAny(f *fixture) {
	b := f.connect()
	log, sealed, deleted := f.log(b, false, "g"), f.log(b, false, "g"), f.log(b, false, "g")
	f.must("Seal", b.Seal(f.ctx(), sealed))
	f.must("DeleteLog", b.DeleteLog(f.ctx(), deleted))
	f.publish(b, log, "1")
	room := func(when string) {
		for what, log := range map[string]string{
			"a log": log, "a sealed log": sealed, "a deleted log": deleted, "a log that never was": newName(), "no log": "",
		} {
			f.must("Room of "+what+when, b.Room(log))
		}
	}
	room("")
	if f.h.Cut != nil && f.h.Mend != nil { // it never blocks
		mend := f.cut(b)
		room(", cut off")
		mend()
	}
}

func oddLogNames(f *fixture) {
	prefix := strings.TrimSuffix(newName(), "log")
	long := strings.Repeat("n", 300)
	names := []string{
		"a", "A", "a.b/c", "a/b.c", "a/b/c", "a.b.c", "a_b/c", "a-b/c", "a b/c", "a\tb", "a\nb", "*", ">", "a.*", "a.>", "$JS.API",
		"%2F", "a%2Fb", "\u00e9", "e\u0301", "\xff", "\xfe", "\x00", "žluťoučký", "🐎", long + "1", long + "2", "", "/", "//", ".", "..",
	}
	b := f.connect()
	made := make(map[backend.Incarnation]string)
	for _, n := range names {
		i := f.ensureLog(b, backend.Log{Name: prefix + n})
		if old, ok := made[i]; ok {
			f.Errorf("logs %.50q and %.50q have the same incarnation", old, n)
		}
		made[i] = n
		f.ensureGroups(b, prefix+n, "g")
		f.publish(b, prefix+n, fmt.Sprintf("%q", n))
	}
	for _, n := range names {
		sub := f.subscribe(b, prefix+n, "g")
		if d := f.receive(sub); idOf(d) != fmt.Sprintf("%q", n) {
			f.Errorf("log %.50q delivers %.50s", n, idOf(d))
		} else {
			f.ack(sub, d)
		}
		f.closeSub(sub)
		f.wantLag(b, prefix+n, "g", 0)
	}
	f.must("DeleteLog", b.DeleteLog(f.ctx(), prefix+"*"))
	f.must("DeleteLog", b.DeleteLog(f.ctx(), prefix+">"))
	f.must("DeleteLog", b.DeleteLog(f.ctx(), prefix))
	for _, n := range names {
		if n != "*" && n != ">" && n != "" {
			f.wantLag(b, prefix+n, "g", 0)
		}
	}
}

func oddGroupNames(f *fixture) {
	b := f.connect()
	names := []string{
		"g", "G", "a.b", "a_b", "a-b", "a..b", ".", "..", "-", "_", "0", strings.Repeat("n", 63),
		"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
	}
	log := f.log(b, false)
	for i, n := range names {
		f.ensureGroups(b, log, n)
		f.publish(b, log, fmt.Sprint(i))
	}
	for i, n := range names {
		f.wantLag(b, log, n, int64(len(names)-i))
		sub := f.subscribe(b, log, n)
		for range len(names) - i {
			f.ack(sub, f.receive(sub))
		}
		f.closeSub(sub)
		f.wantLag(b, log, n, 0)
	}
}
