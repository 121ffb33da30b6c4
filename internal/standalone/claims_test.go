package standalone

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// A folder that payloads were in, and that the files still name, is not made anew.
func TestStoreThatIsAwayIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := filepath.Join(t.TempDir(), "a")
	s.write("b.yaml", channelYAML)
	s.write("config.yaml", configYAML("file://"+dir))
	r := s.start()
	r.stop()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	err := s.begin().end()
	if err == nil || !errors.Is(err, claimcheck.ErrUnavailable) || !strings.Contains(err.Error(), dir) {
		t.Errorf("it ended with %v, want an error that names the folder", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder was made anew: %v", err)
	}
}

// postData sends an event with large data, and headers beside.
func (r *running) postData(path, id string, data []byte, header ...string) int {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.base+path, bytes.NewReader(data))
	if err != nil {
		r.t.Fatal(err)
	}
	header = append([]string{"ce-specversion", "1.0", "ce-id", id, "ce-source", "test", "ce-type", "t"}, header...)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// hasher is a last step that keeps what it got by its hash, and holds its requests
// while it is shut.
type hasher struct {
	mu     sync.Mutex
	sums   map[string]string // by id
	header map[string]http.Header
	shut   chan struct{} // nil: open
}

func (h *hasher) serve(t *testing.T) string {
	h.sums, h.header = map[string]string{}, map[string]http.Header{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		if _, err := io.Copy(sum, r.Body); err != nil {
			return
		}
		h.mu.Lock()
		shut := h.shut
		h.mu.Unlock()
		if shut != nil {
			select {
			case <-shut:
			case <-r.Context().Done():
				return
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.sums[r.Header.Get("Ce-Id")] = fmt.Sprintf("%x", sum.Sum(nil))
		h.header[r.Header.Get("Ce-Id")] = r.Header
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func (h *hasher) close() (open func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	shut := make(chan struct{})
	h.shut = shut
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.shut = nil
		close(shut)
	})
}

func (h *hasher) want(t *testing.T, ids []string, data func(id string) []byte) {
	t.Helper()
	for _, id := range ids {
		eventually(t, "event "+id, func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.sums[id] != ""
		})
		h.mu.Lock()
		if got, want := h.sums[id], fmt.Sprintf("%x", sha256.Sum256(data(id))); got != want {
			t.Errorf("event %s arrived with other data than it was sent with", id)
		}
		h.mu.Unlock()
	}
}

func dataOf(id string) []byte {
	b := make([]byte, 300<<10+len(id))
	_, _ = rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%032s", id)))).Read(b)
	return b
}

func configYAML(store string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep, namespace: knative-eventing}\n" +
		"data:\n  claim-check: |\n    store: " + store + "\n"
}

func payloadsIn(t *testing.T, dir string) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "payload", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// The store's URL is edited in the middle of traffic, with events waiting that are in
// the former one; then the process starts again.
func TestStoreIsChangedWhileLargeEventsFlow(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"Never", "Always"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
			var last hasher
			s.write("a.yaml", sequenceYAML("seq", mode, s.step("first"), last.serve(t)))
			s.write("config.yaml", configYAML("file://"+a))
			open := last.close()
			defer open()
			r := s.start(func(c *Config) { c.Drain = time.Second })
			const path = "/default/seq-kn-sequence-0"
			var ids []string
			post := func(id string) {
				t.Helper()
				if got := r.postData(path, id, dataOf(id)); got != http.StatusAccepted {
					t.Fatalf("event %s: status %d", id, got)
				}
				ids = append(ids, id)
			}
			for i := range 5 {
				post(fmt.Sprint("before-", i))
			}
			if n := payloadsIn(t, a); n < 5 {
				t.Errorf("%d payloads in the first store, want 5 or more", n)
			}
			s.write("config.yaml", configYAML("file://"+b))
			for i := 0; payloadsIn(t, b) == 0; i++ {
				post(fmt.Sprint("meanwhile-", i))
			}
			r.applied(1)
			n := payloadsIn(t, a)
			for i := range 5 {
				post(fmt.Sprint("after-", i))
			}
			if more := payloadsIn(t, a); more > n && mode == "Always" {
				t.Errorf("%d payloads went to the former store", more-n)
			}
			r.stop()
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			open()
			r = s.start()
			post("last")
			last.want(t, ids, dataOf)
		})
	}
}

// A client may say what it likes: none of it is taken for ours, or fetched.
func TestClientCannotForgeAReference(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var last hasher
	s.write("a.yaml", sequenceYAML("seq", "Never", last.serve(t)))
	s.write("b.yaml", channelYAML)
	r := s.start()
	const path = "/default/seq-kn-sequence-0"
	if got := r.postData(path, "large", dataOf("large")); got != http.StatusAccepted {
		t.Fatal(got)
	}
	last.want(t, []string{"large"}, dataOf)
	forged := strings.Repeat("A", 400)
	for i, header := range [][]string{
		{"sidestep-claim", forged},
		{"Sidestep-Claim", forged, "ce-sidestepclaim", forged},
		{"ce-dataref", "http://169.254.169.254/latest/meta-data"},
		{"ce-dataref", "file:///etc/passwd", "sidestep-claim", "size=5;sha256=00"},
		{"ce-dataref", r.base + "/claims/" + forged},
	} {
		id := fmt.Sprint(i)
		if got := r.postData(path, id, nil, header...); got != http.StatusAccepted {
			t.Fatalf("%v: status %d", header, got)
		}
		last.want(t, []string{id}, func(string) []byte { return nil })
		last.mu.Lock()
		h := last.header[id]
		last.mu.Unlock()
		if h.Get("Sidestep-Claim") != "" {
			t.Errorf("%v: the step got the header Sidestep-Claim", header)
		}
		if j := slices.Index(header, "ce-dataref"); j >= 0 && h.Get("Ce-Dataref") != header[j+1] {
			t.Errorf("the dataref %s arrived as %s", header[j+1], h.Get("Ce-Dataref"))
		}
	}
	// An attribute's name has no hyphen.
	if got := r.postData(path, "x", nil, "ce-sidestep-claim", forged); got != http.StatusBadRequest {
		t.Errorf("ce-sidestep-claim: status %d, want 400", got)
	}
	for _, path := range []string{
		"/claims/", "/claims/" + forged, "/claims/../../../../etc/passwd", "/claims/..%2f..%2fetc%2fpasswd",
		"/claims/%2e%2e/%2e%2e/etc/passwd", "/claims/payload/default/x", "//claims/x", "/claims/" + forged + "/../x",
	} {
		req, err := http.NewRequest(http.MethodGet, r.base, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = path // as it is
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode < 400 || bytes.Contains(b, []byte("root:")) {
			t.Errorf("%s: status %d, %q", path, res.StatusCode, b)
		}
	}
}
