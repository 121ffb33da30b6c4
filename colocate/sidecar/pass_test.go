package sidecar

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// withNames calls the steps a, b, ... by these names.
func withNames(edit ...func(*Config)) func(*Config) {
	return func(c *Config) {
		c.Names = make(map[string]uint16)
		for i, p := range c.Allow {
			c.Names[string(rune('a'+i))] = p.Number
		}
		for _, e := range edit {
			e(c)
		}
	}
}

// ask sends a request without a slip.
func (p *pod) ask(ctx context.Context, method, path string, body io.Reader, fields ...string) (*http.Response, []byte) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	res, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res, b
}

func TestARequestWithoutASlipIsPassedOnAsItIs(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	step := newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- fmt.Sprint(r.Method, " ", r.Host, r.URL, " ", r.Header["Ce-Id"], r.Header["X-Two"], r.Header["X-Hop"], r.Header["User-Agent"], " ", string(b))
		w.Header()["X-Answer"] = []string{"1", "2"}
		w.Header().Set("Content-Type", "image/png")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "short and stout") //nolint:errcheck // see the client
	})
	p := newPod(t, withNames(), step)
	for path, want := range map[string]string{
		"/a":                "POST pics.example/ [1] [x y] [] [] data",
		"/a/":               "POST pics.example/ [1] [x y] [] [] data",
		"/a/b%2Fc/d?q=1&r=": "POST pics.example/b%2Fc/d?q=1&r= [1] [x y] [] [] data",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+path, strings.NewReader("data"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "pics.example"
		req.Header = http.Header{"Ce-Id": {"1"}, "X-Two": {"x", "y"}, "Connection": {"X-Hop"}, "X-Hop": {"z"}, "User-Agent": {""}}
		res, err := p.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if got := receive(t, seen, "a call"); got != want {
			t.Errorf("%s: the step got  %s\nwant %s", path, got, want)
		}
		h := res.Header
		if err != nil || res.StatusCode != http.StatusTeapot || string(b) != "short and stout" || len(h["X-Answer"]) != 2 ||
			h.Get("Content-Type") != "image/png" || h.Get(wire.OutcomeHeader) != "" {
			t.Errorf("%s: answered %d %v %q, %v", path, res.StatusCode, h, b, err)
		}
	}
}

func TestAPathNamesAStepWithASlipToo(t *testing.T) {
	t.Parallel()
	p := newPod(t, withNames(), newStepServer(t, nil), newStepServer(t, nil))
	p.url += "/a"
	p.post("x", noLimits).want(t, wire.Completed, 0, 0, 2, fmt.Sprintf("x>%d>%d", p.slip.Steps[0].Port, p.slip.Steps[1].Port))
}

func TestWhatNamesNoStepIsNotPassedOn(t *testing.T) {
	t.Parallel()
	step := newStepServer(t, nil)
	p := newPod(t, withNames(), step)
	for _, path := range []string{"/", "/b", "/aa", "//a", "/.sidestep/a", "/%61", "/A"} {
		if res, b := p.ask(t.Context(), http.MethodPost, path, strings.NewReader("x")); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %s", path, res.StatusCode, b)
		}
		if path != "/.sidestep/a" {
			if res, b := p.ask(t.Context(), http.MethodGet, path, http.NoBody); res.StatusCode != http.StatusNotFound {
				t.Errorf("GET %s: %d %s", path, res.StatusCode, b)
			}
		}
	}
	if n := step.calls.Load(); n != 0 {
		t.Errorf("the step was called %d times", n)
	}
	// Without names nothing is.
	plain := newPod(t, nil, step)
	if res, _ := plain.ask(t.Context(), http.MethodPost, "/a", http.NoBody); res.StatusCode != http.StatusBadRequest {
		t.Errorf("without names: %d", res.StatusCode)
	}
}

// What is passed on is not kept: it may be as large as it likes, and come while it goes.
func TestLargeBodiesArePassedOnBothWays(t *testing.T) {
	t.Parallel()
	step := newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex() //nolint:errcheck // it is HTTP/1.1
		io.Copy(w, r.Body)                               //nolint:errcheck // see the client
	})
	p := newPod(t, withNames(func(c *Config) { c.Memory = 1 << 20 }), step)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	for _, body := range []io.Reader{bytes.NewReader(data), io.MultiReader(bytes.NewReader(data))} { // with a length, and without
		if res, b := p.ask(t.Context(), http.MethodPost, "/a", body); res.StatusCode != http.StatusOK || !bytes.Equal(b, data) {
			t.Errorf("answered %d and %d bytes", res.StatusCode, len(b))
		}
	}
}

func TestAStepMayAnswerBeforeItHasReadAll(t *testing.T) {
	t.Parallel()
	step := newStepServer(t, func(w http.ResponseWriter, _ *http.Request) {
		http.NewResponseController(w).EnableFullDuplex() //nolint:errcheck // else the library reads what the step does not
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		io.WriteString(w, "too large") //nolint:errcheck // see the client
	})
	p := newPod(t, withNames(), step)
	for range 5 {
		res, b := p.ask(t.Context(), http.MethodPost, "/a", bytes.NewReader(make([]byte, 32<<20)))
		if res.StatusCode != http.StatusRequestEntityTooLarge || string(b) != "too large" {
			t.Errorf("answered %d %q", res.StatusCode, b)
		}
	}
	// A body of which no more comes holds up nobody.
	pipe, end := io.Pipe()
	defer end.Close()
	if res, _ := p.ask(t.Context(), http.MethodPost, "/a", pipe); res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("answered %d", res.StatusCode)
	}
}

func TestAnswersWithoutABodyArePassedBack(t *testing.T) {
	t.Parallel()
	step := newStepServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Length", "7")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	p := newPod(t, withNames(), step)
	for range 2 { // on the same connection
		if res, b := p.ask(t.Context(), http.MethodPost, "/a", strings.NewReader("x")); res.StatusCode != http.StatusNoContent || len(b) > 0 {
			t.Errorf("answered %d %q", res.StatusCode, b)
		}
		if res, b := p.ask(t.Context(), http.MethodHead, "/a", http.NoBody); res.StatusCode != http.StatusOK || len(b) > 0 || res.ContentLength != 7 {
			t.Errorf("answered %d %q, length %d", res.StatusCode, b, res.ContentLength)
		}
	}
}

func TestAClientThatGoesEndsWhatWasPassedOn(t *testing.T) {
	t.Parallel()
	began, ended := make(chan bool, 1), make(chan bool, 1)
	step := newStepServer(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // there is little
		began <- true
		<-r.Context().Done()
		ended <- true
	})
	p := newPod(t, withNames(), step)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/a", strings.NewReader("x"))
		res, err := p.client.Do(req)
		if err == nil {
			res.Body.Close()
		}
		done <- err
	}()
	receive(t, began, "the call")
	cancel()
	receive(t, ended, "its end")
	if err := <-done; err == nil {
		t.Error("it was answered")
	}
}

func TestPlacesCountForWhatIsPassedOn(t *testing.T) {
	t.Parallel()
	began, leave := make(chan bool, 1), make(chan bool)
	step := newStepServer(t, func(http.ResponseWriter, *http.Request) {
		began <- true
		<-leave
	})
	p := newPod(t, withNames(func(c *Config) { c.MaxInFlight, c.MaxWait = 1, time.Millisecond }), step)
	done := make(chan int, 1)
	go func() {
		res, err := p.client.Post(p.url+"/a", "text/plain", strings.NewReader("x"))
		if err != nil {
			done <- 0
			return
		}
		res.Body.Close()
		done <- res.StatusCode
	}()
	receive(t, began, "the call")
	if res, b := p.ask(t.Context(), http.MethodPost, "/a", strings.NewReader("x")); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "1" {
		t.Errorf("answered %d %q", res.StatusCode, b)
	}
	p.post("x", noLimits).want(t, wire.Busy, wire.Overload, 0, 0, "-")
	close(leave)
	if got := receive(t, done, "the answer"); got != http.StatusOK {
		t.Errorf("answered %d", got)
	}
}

// A pod is ready when its steps are: one that was started for an event is sent it then.
func TestAPodIsReadyWhenItsStepsAnswer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.ParseUint(port, 10, 16)
	p := newPod(t, withNames(func(c *Config) { c.Names["late"] = uint16(n); c.Allow = append(c.Allow, Port{Number: uint16(n)}) }), newStepServer(t, nil))
	if res, b := p.ask(t.Context(), http.MethodGet, readyPath, http.NoBody); res.StatusCode != http.StatusOK {
		t.Errorf("answered %d %s", res.StatusCode, b)
	}
	l.Close()
	if res, b := p.ask(t.Context(), http.MethodGet, readyPath, http.NoBody); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(b), "step late") {
		t.Errorf("answered %d %s", res.StatusCode, b)
	}
	for range 2 {
		if res, b := p.ask(t.Context(), http.MethodPost, "/late", strings.NewReader("x")); res.StatusCode != http.StatusBadGateway || !strings.Contains(string(b), port) {
			t.Errorf("answered %d %s", res.StatusCode, b)
		}
	}
}

func TestNamesOfSteps(t *testing.T) {
	t.Parallel()
	if name, p, err := ParseStep("re-size_2.x=[::1]:9101"); err != nil || name != "re-size_2.x" || p != (Port{9101, true}) {
		t.Errorf("got %s %v %v", name, p, err)
	}
	for _, bad := range []string{"", "resize", "=9101", "resize=", "resize=0", "a/b=1", ".a=1", "a%20=1", "ä=1", "resize=10.0.0.1:80", strings.Repeat("a", 64) + "=1"} {
		if _, _, err := ParseStep(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	c := Config{Pod: "p", Allow: []Port{{Number: 9101}}, Names: map[string]uint16{"a": 9102}}
	if err := c.Validate(); err == nil {
		t.Error("a step at a port that is not allowed is taken")
	}
}
