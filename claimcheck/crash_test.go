package claimcheck_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
)

// journey is what an engine does with one event, on a log that survives it:
//
//	put, publish, [read, link], carry, publish the reply, settle, discard
//
// It stops at the first error, as a process does that is killed.
func journey(ctx context.Context, r *claimcheck.Checkroom, f *fixture, log *[]claimcheck.Claim, link bool) error {
	c, err := r.Store(ctx, claimcheck.Payload{Owner: owner, Head: []byte("payload"), Length: -1})
	if err != nil {
		return err
	}
	*log = append(*log, c)
	if link {
		if _, err := r.Link(ctx, c, time.Hour); err != nil {
			return err
		}
	}
	f.clock.add(ttl - time.Hour) // a slow step
	next, err := r.Carry(ctx, c, "team-a/next")
	if err != nil {
		return err
	}
	*log = append(*log, next)
	*log = (*log)[1:]
	f.clock.add(ttl / 4)
	*log = (*log)[1:]
	_, err = r.Discard(ctx, next)
	return err
}

func TestKilledAtAnyStage(t *testing.T) {
	t.Parallel()
	for _, link := range []bool{false, true} {
		for dieAfter := 1; ; dieAfter++ {
			f := newFixture(t)
			f.store.dieAfter = dieAfter
			var log []claimcheck.Claim
			err := journey(t.Context(), f.Checkroom, f, &log, link)
			f.store.dieAfter = 0 // the process that comes after it
			t.Run(fmt.Sprintf("link=%v, after %d steps", link, dieAfter), func(t *testing.T) {
				wantSettled(t, f, log)
			})
			if err == nil {
				if dieAfter < 6 {
					t.Errorf("only %d stages", dieAfter)
				}
				break
			}
		}
	}
}

// wantSettled: while a record is in the log, its payload is there, for as long as it takes;
// afterwards nothing is left.
func wantSettled(t *testing.T, f *fixture, log []claimcheck.Claim) {
	t.Helper()
	for range 5 {
		f.sweep(t, log...)
		for _, c := range log {
			wantPayload(t, f.Checkroom, c, []byte("payload"))
		}
		f.clock.add(ttl)
	}
	f.sweep(t)
	if left := f.objects(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestASweeperKilledAtAnyStageIsRepeated(t *testing.T) {
	t.Parallel()
	for dieAfter := 1; ; dieAfter++ {
		f := newFixture(t)
		live, dead := f.putFor(t, "team-b/pics", []byte("live")), f.put(t, []byte("dead"))
		if _, err := f.Link(t.Context(), dead, time.Hour); err != nil {
			t.Fatal(err)
		}
		f.clock.add(2 * ttl)
		f.store.steps, f.store.dieAfter = 0, dieAfter
		_, err := f.Sweep(t.Context(), refer(live))
		f.store.dieAfter = 0
		f.sweep(t, live)
		if left := f.objects(t); len(left) != 1 || left[0] != live.Object {
			t.Errorf("after %d steps: left %v", dieAfter, left)
		}
		if err == nil {
			break
		}
	}
}

const victimFolder = "SIDESTEP_TEST_VICTIM_FOLDER"

// TestVictim is not a test: it is the process that the next one kills. It stores
// payloads for ever.
func TestVictim(t *testing.T) {
	dir := os.Getenv(victimFolder)
	if dir == "" {
		t.Skip("is run by TestAKilledProcessLeavesWholePayloadsOnly")
	}
	s, err := blobstore.File(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := claimcheck.New(claimcheck.Config{
		Stores: map[string]claimcheck.Store{"main": s}, Current: "main", Keys: keys(t), TTL: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	data := randomBytes(1, 4*mib)
	for {
		c, err := r.Store(t.Context(), claimcheck.Payload{Owner: owner, Rest: onlyReader(data), Length: -1})
		if err != nil {
			t.Fatal(err)
		}
		h, err := r.Header(c)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("claim " + h)
	}
}

// A real process, and a real SIGKILL.
func TestAKilledProcessLeavesWholePayloadsOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "claims")
	headers := killVictim(t, dir, 5)
	s, err := blobstore.File(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Now()
	r, err := claimcheck.New(claimcheck.Config{
		Stores: map[string]claimcheck.Store{"main": s}, Current: "main", Keys: keys(t), TTL: time.Hour,
		Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := randomBytes(1, 4*mib)
	var live []claimcheck.Claim
	for _, h := range headers {
		c, err := r.ParseHeader(h, owner)
		if err != nil {
			t.Fatal(err)
		}
		wantPayload(t, r, c, want)
		live = append(live, c)
	}
	now = now.Add(48 * time.Hour)
	if _, err := r.Sweep(t.Context(), refer(live...)); err != nil {
		t.Fatal(err)
	}
	for _, c := range live {
		wantPayload(t, r, c, want)
	}
	if _, err := r.Sweep(t.Context(), refer()); err != nil {
		t.Fatal(err)
	}
	if got := count(s.List(t.Context(), "")); got != 0 {
		t.Errorf("%d objects are left without a record", got)
	}
}

// killVictim runs TestVictim until it has answered n times, and returns all of its answers.
func killVictim(t *testing.T, dir string, n int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), victimFolder+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []byte
	p := make([]byte, 4096)
	for {
		k, err := out.Read(p)
		all = append(all, p[:k]...)
		if bytes.Count(all, []byte("\n")) >= n {
			_ = cmd.Process.Kill() // again is no harm: the pipe holds what it had answered
		}
		if err != nil {
			break
		}
	}
	_ = cmd.Wait()
	var headers []string
	for line := range strings.Lines(string(all)) {
		if h, ok := strings.CutPrefix(line, "claim "); ok && strings.HasSuffix(h, "\n") {
			headers = append(headers, strings.TrimSpace(h))
		}
	}
	if len(headers) < n {
		t.Fatalf("only %d answers:\n%s", len(headers), all)
	}
	return headers
}

func count(objects iter.Seq2[claimcheck.Object, error]) (n int) {
	for range objects {
		n++
	}
	return n
}
