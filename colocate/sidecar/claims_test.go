package sidecar

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// withClaims gives a sidecar a folder, and little memory for one event.
func withClaims(t *testing.T, further ...func(*Config)) (string, func(*Config)) {
	t.Helper()
	dir := t.TempDir()
	return dir, func(c *Config) {
		c.Claims, c.Inline = dir, 1<<10
		for _, f := range further {
			f(c)
		}
	}
}

// someClaims is for who does not look into the folder.
func someClaims(t *testing.T, further ...func(*Config)) func(*Config) {
	t.Helper()
	_, claims := withClaims(t, further...)
	return claims
}

var large = strings.Repeat("0123456789abcdef", 20_000) // 320,000 bytes

func TestALargeEventPassesThroughAsAFile(t *testing.T) {
	t.Parallel()
	a, b := newStepServer(t, nil), newStepServer(t, nil)
	p := newPod(t, someClaims(t), a, b)
	for range 2 {
		p.post(large, noLimits).want(t, wire.Completed, 0, 0, 2, fmt.Sprintf("%s>%d>%d", large, a.port, b.port))
	}
	// In chunks, of which nobody says how many come.
	got, err := p.do(p.request(t.Context(), io.MultiReader(strings.NewReader(large)), noLimits))
	if err != nil {
		t.Fatal(err)
	}
	got.want(t, wire.Completed, 0, 0, 2, fmt.Sprintf("%s>%d>%d", large, a.port, b.port))
	p.eventually("no file is left", func() bool { return len(p.claims()) == 0 })
}

func TestALargeEventComesBackWholeFromBeforeAStepThatFails(t *testing.T) {
	t.Parallel()
	a, b := newStepServer(t, nil), newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusInternalServerError)
	})
	p := newPod(t, someClaims(t), a, b)
	p.slip.Entering = true
	p.post(large, noLimits).want(t, wire.Spilled, wire.TooLarge, 1, 1, fmt.Sprintf("%s>%d", large, a.port))
	p.slip.Entering = false
	p.post(large, noLimits).want(t, wire.Spilled, wire.Status, 1, 1, fmt.Sprintf("%s>%d", large, a.port))
	// Half an answer, after the answer has begun to be a file.
	h := hangUpStep(t, answerHead+"Content-Length: 1000000\r\n\r\n"+large)
	p2 := newPod(t, someClaims(t), a, h)
	p2.post(large, noLimits).want(t, wire.Spilled, wire.Unreachable, 1, 1, fmt.Sprintf("%s>%d", large, a.port))
}

func TestALargeEventIsNotTakenWhereThereIsNoRoom(t *testing.T) {
	t.Parallel()
	grows := newStepServer(t, answerer(large))
	step := newStepServer(t, nil)
	for name, configure := range map[string]func(*Config){
		"no folder":       func(c *Config) { c.Inline = 1 << 10 },
		"a full folder":   someClaims(t, func(c *Config) { c.ClaimBytes = 100_000 }),
		"a smaller limit": someClaims(t, func(c *Config) { c.MaxEventBytes = 100_000 }),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t, configure, grows, step)
			got := p.post(large, noLimits)
			got.want(t, wire.Spilled, wire.TooLarge, 0, 0, "-")
			if got.status != http.StatusOK {
				t.Errorf("status %d, want 200 as for all spills", got.status)
			}
			got, err := p.do(p.request(t.Context(), io.MultiReader(strings.NewReader(large)), noLimits))
			if err != nil {
				t.Fatal(err)
			}
			got.want(t, wire.Spilled, wire.TooLarge, 0, 0, "-")
			// An answer that does not fit: the event that entered the step is kept.
			p.post("x", noLimits).want(t, wire.Spilled, wire.TooLarge, 0, 0, "-")
			l := noLimits
			l.Steps = 1
			p.post("x", l).want(t, wire.Spilled, wire.TooLarge, 0, 0, "-")
		})
	}
	if step.calls.Load() != 0 {
		t.Error("the step after it was called")
	}
}

// referred is a request that a step was handed by reference.
type referred struct {
	path, claim, data string
	length            int64
}

// refStep reads what it is handed by reference, and answers as f says: with a
// dataref, and with data.
func refStep(t *testing.T, seen chan<- referred, f func(r referred) (ref, data string)) *stepServer {
	t.Helper()
	return newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got := referred{claim: r.Header.Get(wire.ClaimHeader), length: int64(len(body)), data: string(body)}
		if ref := r.Header.Get("Ce-Dataref"); ref != "" {
			got.path = strings.TrimPrefix(ref, "file://")
			if b, err := os.ReadFile(got.path); err == nil {
				got.data = string(b)
			}
		}
		if seen != nil {
			seen <- got
		}
		ref, data := f(got)
		asEvent(w)
		if ref != "" {
			w.Header().Set("Ce-Dataref", ref)
		}
		_, _ = io.WriteString(w, data)
	})
}

func TestAStepThatWishesGetsAFileAndMayAnswerWithOne(t *testing.T) {
	t.Parallel()
	dir, claims := withClaims(t)
	seen := make(chan referred, 8)
	other := strings.Repeat("x", 5000)
	passesOn := refStep(t, seen, func(r referred) (string, string) { return "file://" + r.path, "" })
	writes := refStep(t, seen, func(referred) (string, string) {
		name := filepath.Join(dir, "sub", "an answer")
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(name, []byte(other), 0o600); err != nil {
			t.Error(err)
		}
		return "file://localhost" + strings.ReplaceAll(name, " ", "%20"), ""
	})
	writesSmall := refStep(t, seen, func(referred) (string, string) {
		name := filepath.Join(dir, "small")
		if err := os.WriteFile(name, []byte("small"), 0o600); err != nil {
			t.Error(err)
		}
		return "file://" + name, ""
	})
	byValue := newStepServer(t, nil)
	p := newPod(t, claims, passesOn, writes, writesSmall, byValue)
	for i := range 3 {
		p.slip.Steps[i].Reference = true
	}
	got := p.post(large, noLimits)
	got.want(t, wire.Completed, 0, 0, 4, fmt.Sprintf("small>%d", byValue.port))
	if got.event.Get(dataref) != "" {
		t.Errorf("the answer has a dataref: %+v", got.event)
	}
	for i, want := range []string{large, large, other} {
		r := receive(t, seen, "a call")
		if r.data != want || r.length != 0 || r.claim != fmt.Sprintf("size=%d", len(want)) || filepath.Dir(r.path) != dir {
			t.Errorf("step %d: %s, claim %q, %d bytes in the body, %.20q", i, r.path, r.claim, r.length, r.data)
		}
	}
	p.eventually("no file is left", func() bool { return len(p.claims()) == 1 }) // the folder sub
	// What is small is handed over by value.
	l := noLimits
	l.Start, l.Steps = 2, 1
	p.post(other[:800], l)
	if r := receive(t, seen, "a call"); r.claim != "" || r.path != "" || r.length != 800 {
		t.Errorf("%+v", r)
	}
}

func TestAFileThatAStepAnsweredWithLeavesThePodByValue(t *testing.T) {
	t.Parallel()
	dir, claims := withClaims(t)
	name := filepath.Join(dir, "answer")
	writes := refStep(t, nil, func(referred) (string, string) {
		if err := os.WriteFile(name, []byte(large), 0o600); err != nil {
			t.Error(err)
		}
		return "file://" + name, ""
	})
	down := newStepServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	p := newPod(t, claims, writes, down)
	p.slip.Steps[0].Reference = true
	p.post("x", noLimits).want(t, wire.Spilled, wire.Status, 1, 1, large)
	l := noLimits
	l.Steps = 1
	p.post("x", l).want(t, wire.Completed, 0, 0, 1, large)
	p.eventually("no file is left", func() bool { return len(p.claims()) == 0 })
	// A step that did not ask for files has no business with them: what it says
	// is passed on.
	p.slip.Steps[0].Reference = false
	got := p.post("x", l)
	got.want(t, wire.Completed, 0, 0, 1, "")
	if got.event.Get(dataref) != "file://"+name {
		t.Errorf("%+v", got.event)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != large {
		t.Errorf("the file was touched: %v", err)
	}
}

// What a step names is not opened unless it is its own plain file in the folder.
func TestAStepCannotReachOutOfTheFolder(t *testing.T) {
	t.Parallel()
	dir, claims := withClaims(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	write := func(name, data string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(secret, large)
	write(filepath.Join(dir, "mine"), large)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink(secret, filepath.Join(dir, "link")))
	must(os.Symlink("mine", filepath.Join(dir, "inner-link")))
	must(os.Symlink(outside, filepath.Join(dir, "folder-link")))
	must(os.Mkdir(filepath.Join(dir, "folder"), 0o755))
	must(syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(os.Symlink("/dev/zero", filepath.Join(dir, "zero")))

	ref := make(chan string, 1)
	step := refStep(t, nil, func(referred) (string, string) { return <-ref, "" })
	p := newPod(t, claims, step)
	write(filepath.Join(dir, spoolPrefix+"of-another-chain"), large) // after the sweep
	p.slip.Steps[0].Reference = true
	for _, bad := range []string{
		dir + "/../" + filepath.Base(outside) + "/secret", dir + "/folder/../../x", dir + "/./mine", dir + "//mine", dir + "/", dir + "/.",
		dir + "/%2e%2e/" + filepath.Base(outside) + "/secret", dir + "/mine/", dir + "/mine%2500", dir + "/%252e%252e/" + filepath.Base(outside) + "/secret",
		dir + "/link", dir + "/inner-link", dir + "/folder-link/secret", dir + "/folder", dir + "/fifo", dir + "/zero",
		dir + "/absent", dir + "/mine/x", dir + "/" + spoolPrefix + "of-another-chain", dir + "/" + lockName,
	} {
		ref <- "file://" + bad
		got := p.post("x", noLimits)
		got.want(t, wire.Spilled, wire.Status, 0, 0, "-")
		if got.Seen.Status != http.StatusOK {
			t.Errorf("%s: %+v", bad, got.Seen)
		}
	}
	// Elsewhere is none of our business: it is passed on, and not opened.
	for _, other := range []string{"file://" + secret, "file://elsewhere" + dir + "/mine", "https://example.com" + dir + "/mine", "file:///etc/passwd", dir + "/mine", ":"} {
		ref <- other
		got := p.post("x", noLimits)
		got.want(t, wire.Completed, 0, 0, 1, "")
		if got.event != nil && got.event.Get(dataref) != other {
			t.Errorf("%s became %q", other, got.event.Get(dataref))
		}
	}
	for _, name := range []string{secret, filepath.Join(dir, "mine"), filepath.Join(dir, spoolPrefix+"of-another-chain")} {
		if b, err := os.ReadFile(name); err != nil || string(b) != large {
			t.Errorf("%s was touched: %v", name, err)
		}
	}
	must(os.Remove(filepath.Join(dir, spoolPrefix+"of-another-chain")))
}

func TestAClientsDatarefIsPassedOnUntouched(t *testing.T) {
	t.Parallel()
	_, claims := withClaims(t)
	seen := make(chan referred, 1)
	step := refStep(t, seen, func(r referred) (string, string) { return "", fmt.Sprint(r.length) })
	p := newPod(t, claims, step)
	p.slip.Steps[0].Reference = true
	p.post(large, noLimits, "ce-dataref", "file:///etc/hostname").want(t, wire.Completed, 0, 0, 1, fmt.Sprint(len(large)))
	if r := receive(t, seen, "a call"); r.path != "/etc/hostname" || r.claim != "" || r.length != int64(len(large)) {
		t.Errorf("path %s, claim %q, %d bytes", r.path, r.claim, r.length)
	}
}

func TestAClientThatGoesWhileALargeAnswerComesLeavesNothing(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB: more than sockets hold
	p := newPod(t, someClaims(t), newStepServer(t, answerer(huge)))
	for range 3 {
		resp, err := p.client.Do(p.request(t.Context(), strings.NewReader("x"), noLimits))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
			t.Error(err)
		}
		if len(p.claims()) == 0 {
			t.Error("there is no file while it is being sent")
		}
		resp.Body.Close()
	}
	p.eventually("no file is left", func() bool { return len(p.claims()) == 0 })
	p.nothingLeft()
}

// A file that is gone is an event that is lost in the pod: there is no outcome,
// and the dispatcher runs the chain anew.
func TestAChainWhoseFileWasDeletedHasNoOutcome(t *testing.T) {
	t.Parallel()
	dir, claims := withClaims(t)
	deletes := newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), spoolPrefix) {
				os.Remove(filepath.Join(dir, e.Name()))
			}
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	p := newPod(t, claims, newStepServer(t, nil), deletes)
	if got := p.post(large, noLimits); got.Kind != 0 || got.status != http.StatusInternalServerError {
		t.Errorf("%d, %+v", got.status, got.Outcome)
	}
}

func TestWhatACrashLeftIsSweptAndNothingElse(t *testing.T) {
	t.Parallel()
	dir, claims := withClaims(t)
	for _, name := range []string{spoolPrefix + "1-1", spoolPrefix + "1-2", "a-steps-own", "sidestep-notes"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(large), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, spoolPrefix+"folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a-steps-own", filepath.Join(dir, spoolPrefix+"link")); err != nil {
		t.Fatal(err)
	}
	c := Config{Pod: podUID, Allow: []Port{{Number: 1}}}
	claims(&c)
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{t: t, Sidecar: s}
	if got, want := fmt.Sprint(p.claims()), fmt.Sprint([]string{"a-steps-own", "sidestep-notes", spoolPrefix + "folder", spoolPrefix + "link"}); got != want {
		t.Errorf("left are %s, want %s", got, want)
	}
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "another sidecar") {
		t.Errorf("a second one on the same folder: %v", err)
	}
	s.Close()
	if s, err = New(c); err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	s.Close()
}

func TestAPayloadIsWhatItWasWhenItCame(t *testing.T) {
	t.Parallel()
	_, claims := withClaims(t)
	c := Config{Pod: podUID, Allow: []Port{{Number: 1}}}
	claims(&c)
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	store := func(length int64) (event.Payload, error) {
		return s.spool.Store(t.Context(), event.Incoming{Owner: "o", Head: []byte("ab"), Rest: strings.NewReader("cde"), Length: length})
	}
	if _, err := store(6); err == nil {
		t.Error("a length that is not the event's is not noticed")
	}
	if s.spool.used.Load() != 0 {
		t.Errorf("%d bytes are counted, and none kept", s.spool.used.Load())
	}
	stored, err := store(5)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := stored.(*file)
	path := filepath.Join(s.Claims, f.name)
	read := func() (string, error) {
		r, err := f.Open(t.Context())
		if err != nil {
			return "", err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		return string(b), err
	}
	if got, err := read(); got != "abcde" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("abcdefgh"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := read(); got != "abcde" || err != nil {
		t.Errorf("longer: %q, %v", got, err)
	}
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	if got, err := read(); err == nil {
		t.Errorf("shorter: %q, and no error", got)
	}
	s.spool.release("o")
	if _, err := read(); err == nil {
		t.Error("released, and still there")
	}
}
