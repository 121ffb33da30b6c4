package standalone

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

func TestHopsAreSentToACollector(t *testing.T) {
	var mu sync.Mutex
	var got bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		io.Copy(&got, r.Body) //nolint:errcheck // what is missing is seen
	}))
	defer collector.Close()
	s := newSite(t)
	s.write("flow.yaml", sequenceYAML("seq", "Always", s.step("a"), s.step("b")))
	s.write("observability.yaml", fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-observability}\n"+
		"data: {tracing-protocol: http/protobuf, tracing-endpoint: %s/v1/traces, tracing-sampling-rate: '1'}\n", collector.URL))
	r := s.start()
	r.post("/default/seq-kn-sequence-0", "1")
	s.wantDelivered("b", "1")
	r.stop()
	if err := r.end(); err != nil { // which sends what has not been sent
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{
		"sidestep-dispatcher", "publish default/seq-kn-sequence-0", "deliver default/seq-kn-sequence-0",
		"deliver default/seq-kn-sequence-1", "short-circuited",
	} {
		if !bytes.Contains(got.Bytes(), []byte(want)) {
			t.Errorf("the collector got no %q", want)
		}
	}
}
