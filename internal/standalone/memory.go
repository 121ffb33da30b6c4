package standalone

import (
	"context"
	"runtime/debug"
	"sync"
	"time"
)

// startPercent is the garbage collector's target (GOGC) during a start.
const startPercent = 25

// trimAfter is when what a start needed beside what stays is no longer needed: by
// then all subscriptions are open.
const trimAfter = 10 * time.Second

// starting are the processes that start; in tests there are several in one.
var starting struct {
	sync.Mutex
	n, usual int
}

// collectOften has the garbage collector run more often until started is called. A
// start with thousands of channels makes four times as much garbage as it keeps, in
// between what it keeps: with the usual target a tenth of the heap are holes, which
// cannot be given back and are not needed for the little that an idle process
// allocates. It takes more processor time, of which a start has enough: it waits for
// the disk.
func collectOften() (started func()) {
	starting.Lock()
	defer starting.Unlock()
	if starting.n++; starting.n == 1 {
		starting.usual = debug.SetGCPercent(startPercent)
		if starting.usual < startPercent { // as the user wants: more often still, or never
			debug.SetGCPercent(starting.usual)
		}
	}
	return sync.OnceFunc(func() {
		starting.Lock()
		defer starting.Unlock()
		if starting.n--; starting.n == 0 {
			debug.SetGCPercent(starting.usual)
		}
	})
}

// trim gives back to the system, once, the memory that a start with thousands of
// channels took and an idle process would keep for minutes.
func trim(ctx context.Context) {
	if sleep(ctx, trimAfter) {
		debug.FreeOSMemory()
	}
}
