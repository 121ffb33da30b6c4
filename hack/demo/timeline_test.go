package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant, as in %s,\n%s", got, path, want)
	}
}

var posted = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// seen makes a hop from its beginning and length, in microseconds.
func seen(at, took int64, leg, travel, dest string, attempt, status int) hop {
	h := hop{
		Start: posted.Add(time.Duration(at) * time.Microsecond), Took: time.Duration(took) * time.Microsecond,
		ID: "run-1", Leg: leg, Travel: travel, Dest: dest, Attempt: attempt, Status: status,
	}
	if status == 0 {
		h.Error = "connection refused"
	}
	return h
}

const (
	resizeURL  = "http://127.0.0.1:9101"
	captionURL = "http://127.0.0.1:9102"
	collectURL = "http://127.0.0.1:9104"
	sortURL    = "http://127.0.0.1:9105"
	flakyURL   = "http://127.0.0.1:9106"
	lostURL    = "http://127.0.0.1:9109"
)

func stepNames() map[string]string {
	return map[string]string{
		resizeURL: "resize", captionURL: "caption", collectURL: "collect",
		sortURL: "sort", flakyURL: "flaky", lostURL: "lost",
	}
}

// chained went straight through.
func chained() *journey {
	return &journey{
		letter:  &letter{id: "run-1", kind: pictureType, path: "pictures/dunes.jpg", data: make([]byte, 33_000)},
		channel: "pics-kn-sequence-0", posted: posted, accepted: 900 * time.Microsecond,
		hops: []hop{
			seen(1_000, 18_000, toStep, "stored", resizeURL, 1, 200),
			seen(19_100, 6_000, toStep, shortCircuited, captionURL, 1, 200),
			seen(25_200, 800, toStep, shortCircuited, collectURL, 1, 202),
		},
		files: []kept{{"run-1", "/out/pics/dunes-run-1.jpg", 20_480}},
	}
}

// spilled failed in the middle of a chain, and then for good.
func spilled() *journey {
	return &journey{
		letter:  &letter{id: "run-1", kind: badType, path: "pictures/harbour.png", data: make([]byte, 900)},
		channel: "prints-kn-parallel", posted: posted, accepted: 2 * time.Millisecond,
		hops: []hop{
			seen(1_500, 4_000, toStep, "stored", sortURL+"/wide", 1, 200),
			seen(1_600, 3_000, toStep, "stored", sortURL+"/tall", 1, 202),
			seen(5_600, 1_000, toStep, shortCircuited, flakyURL, 1, 503),
			seen(6_700, 400, toSpill, shortCircuited, "default/prints-kn-parallel-0", 1, 202),
			seen(206_700, 900, toStep, "stored", flakyURL, 2, 0),
			seen(1_607_600, 1_000, toStep, "stored", flakyURL, 3, 503),
			seen(1_608_700, 700, toDeadLetter, "stored", lostURL, 1, 202),
		},
		files: []kept{{"run-1", "/out/lost/harbour-run-1.png", 900}},
	}
}

func TestATimelineLooksAsItDid(t *testing.T) {
	t.Parallel()
	for name, st := range map[string]style{
		"plain.txt":   {},
		"ascii.txt":   {ascii: true},
		"colour.ansi": {colour: true},
	} {
		tl := &timeline{style: st, names: stepNames(), folder: "/out"}
		golden(t, name, tl.draw(chained())+"\n"+tl.draw(spilled()))
	}
}

func TestHopsThatComeLiveLookAsTheyDid(t *testing.T) {
	t.Parallel()
	tl := &timeline{names: stepNames(), folder: "/out"}
	got := ""
	for _, h := range spilled().hops {
		got += tl.live(&h)
	}
	last := seen(2_000_000, 10, "reply", "stored", "http://elsewhere:80/x", 1, 200)
	last.Missed = 7
	golden(t, "live.txt", got+tl.live(&last))
}

func TestNoTimeIsCountedTwice(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	got := spilled().tally()
	want := tally{
		total: 1609_400 * time.Microsecond,
		// Two filters at once, from 1.5 to 5.5 ms; then 1, 0.9, 1 and 0.7.
		steps: 4*ms + 3600*time.Microsecond,
		// 6.6 to 206.7 and 207.6 to 1607.6.
		pauses: 200_100*time.Microsecond + 1400*ms,
		writes: 2, attempts: 6, short: 1, failures: 3, deadTaken: 1,
	}
	want.rest = want.total - want.steps - want.pauses
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := union([]span{{5, 9}, {0, 2}, {1, 3}, {6, 7}}); got != 7 {
		t.Errorf("the union is %d long, want 7", got)
	}
}

func TestABarStaysWithinItsRoom(t *testing.T) {
	t.Parallel()
	var tl timeline
	none := func(s string) string { return s }
	for _, c := range []struct{ at, took, total time.Duration }{
		{0, 0, 0}, {0, 5, 5}, {5, 0, 5}, {5, 5, 5}, {0, 500, 5}, {-3, 1, 5}, {time.Hour, time.Hour, 2 * time.Hour},
	} {
		if n := len([]rune(tl.bar(c.at, c.took, c.total, none))); n != barWidth {
			t.Errorf("%+v: the bar is %d wide, want %d", c, n, barWidth)
		}
	}
}
