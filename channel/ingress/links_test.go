package ingress_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/ingress"
)

// serveLinks starts a Server that serves text beneath /claims/.
func serveLinks(t *testing.T, text string) (f *fixture, address string) {
	t.Helper()
	f = newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := ingress.NewServer(f.handler, nil)
	s.HandleLinks("/claims/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/claims/cut" {
			_, _ = io.WriteString(w, "half")
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
	}))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-done); err != nil {
			t.Errorf("stop serving: %v", err)
		}
	})
	return f, l.Addr().String()
}

// One connection asks for a link, posts an event, and asks again.
func TestLinksAndEventsShareAConnection(t *testing.T) {
	t.Parallel()
	f, address := serveLinks(t, "0123456789")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	answers := bufio.NewReader(c)
	const event = "POST /ns/a HTTP/1.1\r\nHost: x\r\nCe-Id: 1\r\nCe-Source: /s\r\nCe-Type: t\r\nCe-Specversion: 1.0\r\nContent-Length: 2\r\n\r\nhi"
	for i, tt := range []struct {
		request, body string
		status        int
	}{
		{event, "", 202}, // by fasthttp
		{"GET /claims/x HTTP/1.1\r\nHost: x\r\nRange: bytes=2-4\r\n\r\n", "234", 206},
		{event, "", 202}, // by net/http
		{"HEAD /claims/x HTTP/1.1\r\nHost: x\r\n\r\n", "", 200},
		{"GET /claims/x HTTP/1.1\r\nHost: x\r\n\r\n", "0123456789", 200},
		{"GET /ns/a HTTP/1.1\r\nHost: x\r\n\r\n", "want POST, with an event\n", 405},
	} {
		if _, err := io.WriteString(c, tt.request); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		r, err := http.ReadResponse(answers, &http.Request{Method: strings.Fields(tt.request)[0]})
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != tt.status || string(body) != tt.body {
			t.Errorf("answer %d: %d %q, %v; want %d %q", i, r.StatusCode, body, err, tt.status, tt.body)
		}
	}
	f.wantStored(2)
}

func TestRequestsSentAheadOfALinksAnswerAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	_, address := serveLinks(t, "text")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	const n = 20
	go func() {
		_, _ = io.WriteString(c, strings.Repeat("GET /claims/x HTTP/1.1\r\nHost: x\r\n\r\n", n))
	}()
	answers := bufio.NewReader(c)
	for i := range n {
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if body, err := io.ReadAll(r.Body); string(body) != "text" || err != nil {
			t.Fatalf("answer %d: %q, %v", i, body, err)
		}
	}
}

func TestOnlyGetAndHeadWithoutABodyAskForALink(t *testing.T) {
	t.Parallel()
	_, address := serveLinks(t, "text")
	for _, tt := range []struct {
		method, body string
		want         int
	}{
		{http.MethodPost, "x", 404},
		{http.MethodDelete, "", 405},
		{http.MethodGet, "a body", 405},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, "http://"+address+"/claims/x", strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != tt.want {
			t.Errorf("%s with %q: %d, want %d", tt.method, tt.body, answer.StatusCode, tt.want)
		}
	}
}

func TestALinkThatIsCutIsNoCompleteAnswer(t *testing.T) {
	t.Parallel()
	_, address := serveLinks(t, "")
	r, err := client.Get("http://" + address + "/claims/cut")
	if err == nil {
		defer r.Body.Close()
		_, err = io.ReadAll(r.Body)
	}
	if err == nil {
		t.Error("the answer looks complete")
	}
}

func TestManyReadLinksAtOnce(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	_, _ = io.CopyN(&b, rand.Reader, 3<<20)
	_, address := serveLinks(t, b.String())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			r, err := client.Get("http://" + address + "/claims/x")
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			if got, err := io.ReadAll(r.Body); err != nil || string(got) != b.String() {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

// It asks for a payload and does not read it.
func TestReaderOfALinkThatStopsReadingIsCutOff(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.handler.BodyIdle = 100 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := ingress.NewServer(f.handler, nil)
	cut := make(chan struct{})
	s.HandleLinks("/claims/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(cut)
		for b := make([]byte, 64<<10); ; { // without end
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-done); err != nil {
			t.Errorf("stop serving: %v", err)
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /claims/x HTTP/1.1\r\nHost: x\r\n\r\n")
	wait(t, "the reader to be cut off", cut)
}
