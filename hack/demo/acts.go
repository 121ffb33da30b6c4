package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// act is some events through one sample.
type act struct {
	object string // Kind/name
	title  string
	about  string
	scenes []scene
	// answers is how many calls must have been answered well for an event
	// to be through, beside one that wrote a file: those of filters.
	filter  string
	answers int
}

type scene struct{ file, kind string }

func acts() []act {
	return []act{
		{
			object: "Sequence/pics",
			title:  "a Sequence: resize, caption, frame, collect",
			about: "Each event is stored once, where it enters. An answer goes straight to the next\n" +
				"  step; the record is settled when the last one is done.",
			scenes: []scene{
				{"balloons.png", pictureType},
				{"dunes.jpg", pictureType},
				{"harbour.png", pictureType},
				{"lighthouse.jpg", pictureType},
			},
		},
		{
			object: "Parallel/prints",
			title:  "a Parallel, and steps that fail",
			about: "Wide pictures go to the step flaky, which fails twice before it works; tall ones\n" +
				"  to sepia. What flaky refuses for good is a dead letter. Every hop is stored.",
			scenes: []scene{
				{"lighthouse.jpg", pictureType},
				{"dunes.jpg", pictureType},
				{"harbour.png", badType},
			},
			filter:  "sort",
			answers: 2,
		},
		{
			object: "Sequence/films",
			title:  "a film that is too large for any log",
			about: "The film is stored once, beside the log. The steps probe and poster get a URL and\n" +
				"  read with Range requests what they need of it.",
			scenes: []scene{{filmFile, filmType}},
		},
	}
}

// sums are what the acts come to.
type sums struct {
	events, files, dead, calls, short, writes int
}

// play posts the events of all acts, one after another, and draws their ways.
func (st *stage) play(ctx context.Context) error {
	run := newRun()
	var all sums
	for i, a := range acts() {
		url := st.urls[a.object]
		if url == "" {
			return fmt.Errorf("the dispatcher has no %s, only %v", a.object, st.urls)
		}
		st.screen.printf("\n%s\n  %s\n\n", st.screen.bold(fmt.Sprintf("Act %d: %s", i+1, a.title)), st.screen.dim(a.about))
		for _, sc := range a.scenes {
			all.events++
			l, err := st.letter(fmt.Sprintf("%s-%d", run, all.events), sc)
			if err != nil {
				return err
			}
			if err := st.show(ctx, &a, url, &l, &all); err != nil {
				return err
			}
		}
	}
	st.screen.printf("%s\n", st.screen.bold(fmt.Sprintf(
		"%d events posted, %d arrived: %s and %s", all.events, all.files, count(all.files-all.dead, "picture"), count(all.dead, "dead letter"))))
	st.screen.printf("  %s, %d of them short-circuited; %s to the log\n  the pictures are in %s\n\n",
		count(all.calls, "call"), all.short, count(all.writes, "write"), st.folders.pictures)
	return nil
}

// show posts one event, waits until all of its way is known, and draws it.
func (st *stage) show(ctx context.Context, a *act, url string, l *letter, all *sums) error {
	at, took, err := post(ctx, &st.client, url, l)
	if err != nil {
		return err
	}
	tl := &timeline{style: st.screen.style, names: st.names, folder: st.folders.pictures}
	hops, files, err := st.journal.await(ctx, l.id, func(hops []hop, files []kept) bool {
		return a.through(tl, hops, files)
	})
	if err != nil {
		return err
	}
	j := &journey{
		letter: l, channel: url[strings.LastIndexByte(url, '/')+1:],
		posted: at, accepted: took, hops: hops, files: files,
	}
	t := j.tally()
	all.files += len(files)
	all.dead += t.deadTaken
	all.calls += t.attempts
	all.short += t.short
	all.writes += t.writes
	st.screen.printf("%s\n", tl.draw(j))
	return nil
}

// through tells that nothing more is to come of an event: a file was written,
// by a call that the dispatcher knows about, and the filters have answered.
func (a *act) through(tl *timeline, hops []hop, files []kept) bool {
	answers, ends := 0, 0
	for i := range hops {
		if hops[i].failed() {
			continue
		}
		name, _, _ := strings.Cut(tl.name(hops[i].Dest), "/")
		switch name {
		case a.filter:
			answers++
		case "collect", "album", "lost", "gallery":
			ends++
		}
	}
	return len(files) > 0 && ends > 0 && answers >= a.answers
}

// stay shows hops as they come, until the user ends it.
func (st *stage) stay(ctx context.Context) error {
	l, err := readLetter("mine", pictureType, filepath.Join(st.pictures, "dunes.jpg"))
	if err != nil {
		return err
	}
	s := st.screen
	s.printf("%s\n\n%s\n\n", s.bold("It stays up. Try:"), curl(st.urls["Sequence/pics"], &l))
	s.printf("  samples   %s  %s\n  metrics   %s\n  hops      %s\n\n", st.folders.samples,
		s.dim("edit them: that is applied at once"), st.admin+"/metrics", st.admin+"/debug/hops")
	s.printf("Hops as they come (Ctrl-C ends it):\n")
	tl := &timeline{style: s.style, names: st.names, folder: st.folders.pictures}
	st.journal.showLive(func(h *hop) {
		s.printf("%s", tl.live(h))
	})
	<-ctx.Done()
	if c := context.Cause(ctx); !interrupted(c) {
		return c
	}
	s.printf("\nending\n")
	return nil
}

// live is a hop on a line of its own.
func (tl *timeline) live(h *hop) string {
	r := tl.rowOf(h)
	line := fmt.Sprintf("  %s  %-12s %-24s %s  %9s  %s  %s", h.Start.Format(time.TimeOnly+".000"), h.ID, r.to,
		r.paint(r.status), brief(r.took), r.paint(fmt.Sprintf("%-15s", r.how)), tl.dim(r.remark))
	line = strings.TrimRight(line, " ") + "\n"
	if h.Missed > 0 {
		line = fmt.Sprintf("  ... and %d that were too quick to be shown\n", h.Missed) + line
	}
	return line
}
