package main

import (
	"bytes"
	"context"
	"image/jpeg"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// aFilm has ten grey frames, each lighter than the last.
func aFilm() []byte {
	const width, height = 32, 16
	b := bytes.NewBufferString("YUV4MPEG2 W32 H16 F25:1 Ip A1:1 C420jpeg\n")
	for i := range 10 {
		b.WriteString("FRAME\n")
		b.Write(bytes.Repeat([]byte{byte(20 * i)}, width*height))
		b.Write(bytes.Repeat([]byte{128}, width*height/2))
	}
	return b.Bytes()
}

func filmEvent(t *testing.T, data []byte) cloudevents.Event {
	t.Helper()
	e := cloudevents.NewEvent()
	e.SetID("1")
	e.SetSource("/test")
	e.SetType("dev.sidestep.samples.film")
	e.SetSubject("grey")
	if data != nil {
		if err := e.SetData("video/x-yuv4mpeg", data); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// serveFilm serves it as a claim's link is served, and counts what is read.
func serveFilm(t *testing.T) (url string, read *int64) {
	t.Helper()
	read = new(int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(&counting{w, read}, r, "", time.Time{}, bytes.NewReader(aFilm()))
	}))
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		s.Close()
	})
	return s.URL, read
}

type counting struct {
	http.ResponseWriter
	n *int64
}

func (c *counting) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return c.ResponseWriter.Write(p)
}

func TestAPosterIsMadeOfTheFrameInTheMiddle(t *testing.T) {
	link, read := serveFilm(t)
	byReference := filmEvent(t, nil)
	byReference.SetExtension(dataref, link)
	for name, in := range map[string]cloudevents.Event{"by value": filmEvent(t, aFilm()), "by reference": byReference} {
		ctx := withClaim(context.Background(), true)
		probed, err := probe(ctx, "", in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		x := probed.event.Extensions()
		if x["filmsize"] != "32x16" || x["filmframes"] != "10" || x[dataref] != in.Extensions()[dataref] || !bytes.Equal(probed.event.Data(), in.Data()) {
			t.Errorf("%s: probed as %v with %d bytes", name, x, len(probed.event.Data()))
		}
		made, err := poster(ctx, "", *probed.event)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		picture, err := jpeg.Decode(bytes.NewReader(made.event.Data()))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r, g, b, _ := picture.At(16, 8).RGBA(); r>>8 != 100 || r != g || g != b || picture.Bounds().Dx() != 32 {
			t.Errorf("%s: %v with %d %d %d", name, picture.Bounds(), r>>8, g>>8, b>>8)
		}
		if made.event.Extensions()[dataref] != nil {
			t.Errorf("%s: the poster still refers to the film", name)
		}
	}
	if *read > 3*maxFilmHead {
		t.Errorf("%d bytes were read of a film of %d", *read, len(aFilm()))
	}
}

func TestADatarefOfSomebodyElseIsNotFollowed(t *testing.T) {
	link, read := serveFilm(t)
	in := filmEvent(t, nil)
	in.SetExtension(dataref, link)
	for name, step := range map[string]step{"probe": probe, "poster": poster} {
		if _, err := step(t.Context(), "", in); err == nil || *read > 0 {
			t.Errorf("%s: %v, after %d bytes", name, err, *read)
		}
	}
}

func TestWhatIsNoFilmIsRefused(t *testing.T) {
	for _, data := range []string{
		"", "x", "YUV4MPEG2 W2 H2", "YUV4MPEG2 W3 H2\n", "YUV4MPEG2 W-2 H2\n", "YUV4MPEG2 W99999 H2\n",
		"YUV4MPEG2 W2 H2 C444\n", "YUV4MPEG2 W2 H2\nFRAM", strings.Repeat("YUV4MPEG2 ", 1000),
	} {
		_, err := poster(t.Context(), "", filmEvent(t, []byte(data)))
		if refused := new(refusal); err == nil || !asRefusal(err, &refused) || refused.status != http.StatusBadRequest {
			t.Errorf("%.20q: %v, want 400", data, err)
		}
	}
}

func asRefusal(err error, to **refusal) bool {
	r, ok := err.(*refusal) //nolint:errorlint // a step returns it as it is
	*to = r
	return ok
}
