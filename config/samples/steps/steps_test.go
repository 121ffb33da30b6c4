package main

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is all steps, each behind a real server.
type bench struct {
	out    string
	stdout *bytes.Buffer
	urls   map[string]string
	client *http.Client
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{out: t.TempDir(), stdout: new(bytes.Buffer), urls: make(map[string]string), client: new(http.Client)}
	b.client.Transport = &http.Transport{}
	t.Cleanup(b.client.CloseIdleConnections)
	p := &printer{w: b.stdout, json: true}
	for name, do := range steps(b.out) {
		s := httptest.NewServer(handler(name, do, p))
		t.Cleanup(s.Close)
		b.urls[name] = s.URL
	}
	return b
}

// post sends an event in binary mode, as a channel does; the answer's event is
// nil if there is none.
func (b *bench) post(t *testing.T, url string, in cloudevents.Event) (status int, out *cloudevents.Event) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if err := cehttp.WriteRequest(binding.WithForceBinary(t.Context()), binding.ToMessage(&in), req); err != nil {
		t.Fatal(err)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("ce-id") == "" {
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, nil
	}
	got, err := cloudevents.NewEventFromHTTPResponse(resp)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, got
}

// sample is an event with a picture of the repository.
func sample(t *testing.T, file string) cloudevents.Event {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "pictures", file))
	if err != nil {
		t.Fatal(err)
	}
	e := cloudevents.NewEvent()
	e.SetID("1")
	e.SetSource("/test")
	e.SetType("dev.sidestep.samples.picture")
	e.SetSubject(strings.TrimSuffix(file, filepath.Ext(file)))
	e.SetExtension("partitionkey", "k")
	if err := e.SetData(http.DetectContentType(data), data); err != nil {
		t.Fatal(err)
	}
	return e
}

// mustPost wants an answer with a picture, and all else of the event as it was.
func (b *bench) mustPost(t *testing.T, name string, in cloudevents.Event) (cloudevents.Event, image.Image) {
	t.Helper()
	status, out := b.post(t, b.urls[name], in)
	if status != http.StatusOK || out == nil {
		t.Fatalf("%s answered %d with event %v, want 200 and an event", name, status, out)
	}
	if out.ID() != in.ID() || out.Source() != in.Source() || out.Subject() != in.Subject() || out.Extensions()["partitionkey"] != "k" {
		t.Errorf("%s changed more than type and data: %v", name, out.Context)
	}
	if out.Type() == in.Type() || out.DataContentType() != "image/jpeg" {
		t.Errorf("%s answered with type %s and %s", name, out.Type(), out.DataContentType())
	}
	p, err := decode(out.Data())
	if err != nil {
		t.Fatal(err)
	}
	return *out, p
}

func TestAPictureThatIsResizedKeepsItsShape(t *testing.T) {
	b := newBench(t)
	for file, want := range map[string]image.Point{
		"dunes.jpg":      {480, 307},
		"harbour.png":    {480, 320},
		"lighthouse.jpg": {320, 480},
	} {
		e, p := b.mustPost(t, "resize", sample(t, file))
		if p.Bounds().Size() != want {
			t.Errorf("%s became %v, want %v", file, p.Bounds().Size(), want)
		}
		if _, again := b.mustPost(t, "caption", e); again.Bounds().Dx() != want.X {
			t.Errorf("%s: the caption made it %d wide, want %d", file, again.Bounds().Dx(), want.X)
		}
		if again := resize(e, p); again != p {
			t.Errorf("%s is small, but was resized again", file)
		}
	}
}

func TestTheCaptionIsBelowThePictureAndSaysWhatTheEventSays(t *testing.T) {
	b := newBench(t)
	in := sample(t, "dunes.jpg")
	_, bySubject := b.mustPost(t, "caption", in)
	in.SetExtension("caption", "quite another text")
	_, byExtension := b.mustPost(t, "caption", in)

	src, err := decode(in.Data())
	if err != nil {
		t.Fatal(err)
	}
	size := src.Bounds().Size()
	if got := bySubject.Bounds().Size(); got.X != size.X || got.Y <= size.Y {
		t.Fatalf("size is %v, want that of the picture, %v, and a bar below", got, size)
	}
	bar := image.Rect(0, size.Y, size.X, bySubject.Bounds().Dy())
	if n := light(bySubject, bar); n == 0 || n > bar.Dx()*bar.Dy()/4 {
		t.Errorf("%d pixels of the bar are light, want letters", n)
	}
	if light(byExtension, bar) <= light(bySubject, bar) {
		t.Error("the caption extension makes no difference")
	}
}

// light counts the light pixels.
func light(p image.Image, in image.Rectangle) (n int) {
	for y := in.Min.Y; y < in.Max.Y; y++ {
		for x := in.Min.X; x < in.Max.X; x++ {
			if y := color.GrayModel.Convert(p.At(x, y)).(color.Gray).Y; y > 128 {
				n++
			}
		}
	}
	return n
}

func TestTextOfAnyKindFitsTheBar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"dunes", 5, "dunes"},
		{"the dunes", 7, "the ..."},
		{"dunes", 3, "dun"},
		{"dunes", 0, ""},
		{"dunes", -4, ""},
		{"D\u00fcnen\n", 9, "D?nen?"},
	} {
		if got := fit(c.text, c.n); got != c.want {
			t.Errorf("fit(%q, %d) = %q, want %q", c.text, c.n, got, c.want)
		}
	}
}

func TestAFrameGoesAroundAndSepiaHasNoColourLeft(t *testing.T) {
	b := newBench(t)
	in := sample(t, "balloons.png")
	src, err := decode(in.Data())
	if err != nil {
		t.Fatal(err)
	}
	_, framed := b.mustPost(t, "frame", in)
	if got := framed.Bounds().Size().Sub(src.Bounds().Size()); got != (image.Point{44, 44}) {
		t.Errorf("the frame adds %v", got)
	}
	_, old := b.mustPost(t, "sepia", in)
	if old.Bounds().Size() != src.Bounds().Size() {
		t.Errorf("sepia changed the size to %v", old.Bounds().Size())
	}
	for y := 4; y < old.Bounds().Dy(); y += 40 {
		for x := 4; x < old.Bounds().Dx(); x += 40 {
			if r, _, blue, _ := old.At(x, y).RGBA(); r < blue {
				t.Fatalf("(%d,%d) is bluer than it is red", x, y)
			}
		}
	}
}

func TestSortAnswersOnlyForTheShapeOfThePath(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		file, path string
		through    bool
	}{
		{"dunes.jpg", "/wide", true},
		{"dunes.jpg", "/tall", false},
		{"lighthouse.jpg", "/wide", false},
		{"lighthouse.jpg", "/tall", true},
	} {
		in := sample(t, c.file)
		status, out := b.post(t, b.urls["sort"]+c.path, in)
		switch {
		case status/100 != 2 || (out != nil) != c.through:
			t.Errorf("%s at %s: answered %d, event %v", c.file, c.path, status, out)
		case out != nil && (out.Type() != in.Type() || !bytes.Equal(out.Data(), in.Data())):
			t.Errorf("%s at %s: the answer is not the event that came", c.file, c.path)
		}
	}
	if status, _ := b.post(t, b.urls["sort"]+"/round", sample(t, "dunes.jpg")); status != http.StatusBadRequest {
		t.Errorf("answered %d for a path that means nothing", status)
	}
}

func TestWhatIsNoPictureIsTheSendersFault(t *testing.T) {
	b := newBench(t)
	for what, data := range map[string]string{
		"nothing":        "",
		"a text":         "hello",
		"half a picture": string(sample(t, "harbour.png").Data()[:2000]),
		"a huge picture": "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x01\x00\x00\x00\x01\x00\x00\x08\x02\x00\x00\x00\x22\xd9\x18\xc0",
	} {
		e := sample(t, "dunes.jpg")
		if err := e.SetData("image/png", []byte(data)); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"resize", "caption", "frame", "sepia"} {
			if status, _ := b.post(t, b.urls[name], e); status != http.StatusBadRequest {
				t.Errorf("%s answered %d to %s, want 400", name, status, what)
			}
		}
	}
}

func TestAPictureGoesThroughAllSteps(t *testing.T) {
	b := newBench(t)
	e := sample(t, "harbour.png")
	for _, name := range []string{"resize", "caption", "frame"} {
		e, _ = b.mustPost(t, name, e)
	}
	if status, _ := b.post(t, b.urls["collect"], e); status/100 != 2 {
		t.Fatalf("collect answered %d", status)
	}
	if _, err := os.Stat(filepath.Join(b.out, "pics", "harbour-1.jpg")); err != nil {
		t.Error(err)
	}
}

func TestAStepsContextIsThatOfItsRequest(t *testing.T) {
	var got error
	block := func(ctx context.Context, _ string, _ cloudevents.Event) (outcome, error) {
		<-ctx.Done()
		got = context.Cause(ctx)
		return outcome{}, got
	}
	h := handler("block", block, &printer{w: io.Discard})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader("{}"))
	for k, v := range map[string]string{"specversion": "1.0", "id": "1", "source": "/t", "type": "t"} {
		r.Header.Set("ce-"+k, v)
	}
	h.ServeHTTP(httptest.NewRecorder(), r)
	if got == nil {
		t.Error("the step was not told that its request is over")
	}
}
