package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/internal/telemetry"
)

func TestMain(m *testing.M) {
	if os.Getenv("DEMO_TEST_CHILD") != "" {
		beChild()
		return
	}
	goleak.VerifyTestMain(m)
}

// The whole of it: the real binaries, built here, and the real samples.
func TestTheDemoSeesEveryEventArrive(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs")
	}
	data := t.TempDir()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--plain", "--data", data}, &out, io.Discard); err != nil {
		t.Fatalf("%v, after\n%s", err, &out)
	}
	for _, want := range []string{
		"8 events posted, 8 arrived: 7 pictures and 1 dead letter",
		"41.2 MiB by reference",
		"attempt 3",
		"dead letter: lost/harbour-",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.ContainsFunc(out.String(), func(r rune) bool { return r > '~' || r < ' ' && r != '\n' }) {
		t.Error("what is to be plain is not")
	}
	if t.Failed() {
		t.Logf("it says\n%s", &out)
	}
	for folder, n := range map[string]int{"pics": 4, "prints": 2, "lost": 1, "films": 1} {
		if files, err := os.ReadDir(filepath.Join(data, "pictures", folder)); err != nil || len(files) != n {
			t.Errorf("%s has %v (%v), want %d files", folder, files, err, n)
		}
	}
}

func TestBadFlagsStartNothing(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"more"}, {"--loud"}} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out, io.Discard); !errors.Is(err, errUsage) || out.Len() > 0 {
			t.Errorf("%q: got %v and output %q", args, err, &out)
		}
	}
}

func TestAHopIsReadAsTheDispatcherWritesIt(t *testing.T) {
	t.Parallel()
	line, err := json.Marshal(telemetry.HopLine{
		Start: posted, Took: time.Second, ID: "i", Leg: "step", Travel: "stored", Dest: "d",
		Attempt: 2, Status: 503, Error: "e", Missed: 4, Bytes: 5, Reference: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	j := newJournal()
	if err := readHops(bytes.NewReader(line), j); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	want := hop{posted, time.Second, "i", "step", "stored", "d", 2, 503, "e", 4, 5, true}
	if got := j.hops["i"]; len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAnEventIsAwaitedUntilAllOfItIsKnown(t *testing.T) {
	t.Parallel()
	j := newJournal()
	got := make(chan []hop, 1)
	go func() {
		hops, _, err := j.await(t.Context(), "run-1", func(h []hop, k []kept) bool { return len(h) == 2 && len(k) == 1 })
		if err != nil {
			t.Error(err)
		}
		got <- hops
	}()
	late := seen(2, 1, toStep, "stored", resizeURL, 1, 200)
	j.addHop(&late)
	other := late
	other.ID = "other"
	j.addHop(&other)
	j.addKept(kept{ID: "run-1"})
	early := seen(1, 1, toStep, "stored", resizeURL, 1, 200)
	j.addHop(&early)
	if hops := <-got; !slices.Equal(hops, []hop{early, late}) {
		t.Errorf("got %+v, want them in the order in which they began", hops)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTooLong)
	_, _, err := j.await(ctx, "run-2", func([]hop, []kept) bool { return false })
	if !errors.Is(err, errTooLong) || !strings.Contains(err.Error(), "run-2") {
		t.Errorf("got %v", err)
	}
}

func TestAStreamThatEndsIsAFailureUnlessItWasStopped(t *testing.T) {
	t.Parallel()
	cut := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		select {
		case <-cut:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	failed := make(chan error, 2)
	fail := func(err error) { failed <- err }
	stop, err := watchHops(t.Context(), fail, newJournal(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if len(failed) > 0 {
		t.Errorf("stopped, but failed: %v", <-failed)
	}
	stop, err = watchHops(t.Context(), fail, newJournal(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	close(cut)
	if err := <-failed; err == nil {
		t.Error("failed without an error")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestPostIsWhatCurlWouldDo(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r
		if r.Header.Get("ce-type") == badType {
			http.Error(w, "not today", http.StatusTeapot)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer s.Close()
	l, err := readLetter("run-1", pictureType, filepath.Join(samples, "pictures", "dunes.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	if _, took, err := post(t.Context(), s.Client(), s.URL+"/default/pics", &l); err != nil || took <= 0 {
		t.Fatal(err, took)
	}
	r := <-got
	line := curl(s.URL+"/default/pics", &l)
	for _, name := range []string{"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "content-type"} {
		if v := r.Header.Get(name); v == "" || !strings.Contains(line, "-H '"+name+": "+v+"'") {
			t.Errorf("%s is %q; the command line is\n%s", name, v, line)
		}
	}
	if !strings.Contains(line, "--data-binary '@"+l.path+"'") || r.ContentLength != int64(len(l.data)) || r.URL.Path != "/default/pics" {
		t.Errorf("posted %d bytes to %s; the command line is\n%s", r.ContentLength, r.URL, line)
	}
	l.kind = badType
	if _, _, err := post(t.Context(), s.Client(), s.URL, &l); err == nil || !strings.Contains(err.Error(), "418 I'm a teapot, want 202: not today") {
		t.Errorf("got %v", err)
	}
	if got := quote("it's"); got != `'it'\''s'` {
		t.Errorf("quoted as %s", got)
	}
}

func TestTheAdminAddressIsFoundInTheLog(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`time=2026-01-02T03:04:05Z level=INFO msg=serving events=127.0.0.1:1 admin=127.0.0.1:2`: "127.0.0.1:2",
		`time=2026-01-02T03:04:05Z level=INFO msg=serving admin="[::1]:2" events="[::1]:1"`:     "[::1]:2",
		`time=2026-01-02T03:04:05Z level=INFO msg=stopping admin=127.0.0.1:2`:                   "",
		`level=INFO msg=serving events=127.0.0.1:1`:                                             "",
	} {
		if got, ok := adminAddress(line); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v", line, got, ok)
		}
	}
}
