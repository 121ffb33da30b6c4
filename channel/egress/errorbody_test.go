package egress

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// An error page without end must neither fill the memory nor hide the status
// until the attempt times out: a 400 is not to be tried again.
func TestResponseBodyIsBounded(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, tr transport) {
		for _, status := range []int{400, 202} {
			target := tr.serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				for r.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 4096)); err != nil {
						return
					}
					w.(http.Flusher).Flush()
				}
			})
			r := send(t, newClient(t, Config{}), target)
			if r.Status != status || len(r.Body) > MaxErrorBody {
				t.Errorf("got status %d with %d bytes, error %v", r.Status, len(r.Body), r.Err)
			}
		}
	})
}

// The rest of such a body never comes.
func TestStalledErrorBodyDoesNotHideTheStatus(t *testing.T) {
	t.Parallel()
	for _, length := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
		t.Run(length, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, tr transport) {
				const chunk = 2048
				head := "HTTP/1.1 400 Bad Request\r\n" + length + "\r\n\r\n"
				if strings.HasSuffix(length, "chunked") {
					head += fmt.Sprintf("%x\r\n", chunk)
				}
				target := tr.raw(t, answers(head+strings.Repeat("x", chunk)))
				r := send(t, newClient(t, Config{}), target)
				if r.Status != 400 || string(r.Body) != strings.Repeat("x", MaxErrorBody) || Retryable(r) {
					t.Errorf("got status %d with %d bytes, error %v", r.Status, len(r.Body), r.Err)
				}
			})
		})
	}
}

func TestConnectionIsKeptAfterAnErrorBody(t *testing.T) {
	t.Parallel()
	bodies := map[string]func(http.ResponseWriter){
		"empty": func(w http.ResponseWriter) { w.WriteHeader(500) },
		"short": func(w http.ResponseWriter) { http.Error(w, "failed", 500) },
		"long": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "20000")
			w.WriteHeader(500)
			io.WriteString(w, strings.Repeat("x", 20000)) //nolint:errcheck // see the result
		},
		"chunked": func(w http.ResponseWriter) {
			w.Header().Set("Trailer", "X-Last")
			w.WriteHeader(500)
			w.(http.Flusher).Flush()
			io.WriteString(w, "failed") //nolint:errcheck // see the result
			w.Header().Set("X-Last", "1")
		},
		"accepted": func(w http.ResponseWriter) { w.WriteHeader(202); io.WriteString(w, "ok") }, //nolint:errcheck // see the result
	}
	onBoth(t, func(t *testing.T, tr transport) {
		for name, body := range bodies {
			var conns counter
			target := tr.serve(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body) //nolint:errcheck // see the result
				conns.see(r.RemoteAddr)
				body(w)
			})
			c := newClient(t, Config{})
			for range 3 {
				send(t, c, target)
			}
			if n := conns.count(); n != 1 {
				t.Errorf("%s: %d connections for 3 attempts, want 1", name, n)
			}
		}
	})
}

func TestRetryAfterIsReadWhateverTheCaseOfItsName(t *testing.T) {
	t.Parallel()
	tests := []struct {
		answer   string
		min, max time.Duration
	}{
		{"503 X\r\nRetry-After: 7", 7 * time.Second, 7 * time.Second},
		{"429 X\r\nretry-after: 7", 7 * time.Second, 7 * time.Second},
		{"503 X\r\nRETRY-AFTER: " + time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), time.Minute, time.Hour},
		{"503 X\r\nRetry-After: " + time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), 0, 0},
		{"503 X\r\nRetry-After: soon", 0, 0},
		{"503 X\r\nRetry-After: -1", 0, 0},
		{"503 X", 0, 0},
		{"500 X\r\nRetry-After: 7", 0, 0},
	}
	onBoth(t, func(t *testing.T, tr transport) {
		c := newClient(t, Config{})
		for _, tt := range tests {
			r := send(t, c, tr.raw(t, answers("HTTP/1.1 "+tt.answer+"\r\nContent-Length: 0\r\n\r\n")))
			if r.RetryAfter < tt.min || r.RetryAfter > tt.max {
				t.Errorf("%q: got %v, want %v to %v (error %v)", tt.answer, r.RetryAfter, tt.min, tt.max, r.Err)
			}
		}
	})
}
