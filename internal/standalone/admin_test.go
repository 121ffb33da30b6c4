package standalone

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/internal/telemetry"
)

func TestReadyzIs503BeforeAndAfterServing(t *testing.T) {
	t.Parallel()
	sender := egress.New(egress.Config{})
	defer sender.Close()
	d, err := channel.New(channel.Config{Backend: membackend.New(membackend.Options{}), Sender: sender, Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	var r readiness
	h := adminHandler(&r, d, prometheus.NewRegistry(), new(telemetry.Hops))
	want := func(path string, status int, text string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if got := strings.TrimSpace(w.Body.String()); w.Code != status || got != text {
			t.Errorf("%s: got %d %q, want %d %q", path, w.Code, got, status, text)
		}
	}
	want("/readyz", 503, "starting")
	want("/healthz", 200, "ok")
	r.ready.Store(true)
	want("/readyz", 200, "ok")
	r.stopping.Store(true)
	want("/readyz", 503, "stopping")
	want("/healthz", 200, "ok")
}
