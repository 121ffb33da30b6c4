package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

func TestWhatIsCollectedIsWholeAndOncePerEvent(t *testing.T) {
	b := newBench(t)
	in := sample(t, "dunes.jpg")
	for range 2 {
		if status, out := b.post(t, b.urls["collect"], in); status/100 != 2 || out != nil {
			t.Fatalf("collect answered %d and %v, want 2xx and no event", status, out)
		}
	}
	entries, err := os.ReadDir(filepath.Join(b.out, "pics"))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "dunes-1.jpg" {
		t.Fatalf("the folder has %v, want dunes-1.jpg and nothing else", entries)
	}
	got, err := os.ReadFile(filepath.Join(b.out, "pics", "dunes-1.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, in.Data()) {
		t.Errorf("the file has %d bytes that are not the %d of the event", len(got), len(in.Data()))
	}
}

func TestNoFileIsWrittenOutsideTheFolder(t *testing.T) {
	t.Parallel()
	e := cloudevents.NewEvent()
	e.SetID("../../etc/passwd\x00" + strings.Repeat("x", 300))
	e.SetSubject("/..")
	name := fileName(e)
	if !filepath.IsLocal(name) || filepath.Base(name) != name || len(name) > 200 {
		t.Errorf("the name is %q", name)
	}
}

func TestADeadLetterIsKeptWithItsCode(t *testing.T) {
	b := newBench(t)
	in := sample(t, "harbour.png")
	in.SetExtension("knativeerrorcode", "400")
	if status, _ := b.post(t, b.urls["lost"], in); status/100 != 2 {
		t.Fatalf("lost answered %d", status)
	}
	if _, err := os.Stat(filepath.Join(b.out, "lost", "harbour-1.png")); err != nil {
		t.Error(err)
	}
	if !strings.Contains(b.stdout.String(), "after code 400") {
		t.Errorf("printed %s", b.stdout)
	}
}

func TestFlakyFailsTwiceForEachEventAndAlwaysForBadOnes(t *testing.T) {
	b := newBench(t)
	one, other := sample(t, "dunes.jpg"), sample(t, "dunes.jpg")
	other.SetID("2")
	var got []int
	for _, e := range []cloudevents.Event{one, other, one, one, one} {
		status, _ := b.post(t, b.urls["flaky"], e)
		got = append(got, status)
	}
	want := []int{503, 503, 503, 200, 503} // the last begins anew
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	one.SetType("dev.sidestep.samples.picture.bad")
	if status, _ := b.post(t, b.urls["flaky"], one); status != http.StatusBadRequest {
		t.Errorf("answered %d to a bad event, want 400", status)
	}
}
