package inject

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// server is a Webhook as the API server sees it.
type server struct {
	t         *testing.T
	url       string
	published []string
	fail      error
}

func newServer(t *testing.T) *server {
	s := &server{t: t}
	h := httptest.NewServer(Handler(&Webhook{
		Image: "sidecar:1", Logger: slog.New(slog.DiscardHandler),
		Trust: func(_ context.Context, namespace string) error {
			s.published = append(s.published, namespace)
			return s.fail
		},
	}))
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

// review is the answer for an object, as JSON.
func (s *server) review(raw []byte, dryRun bool) *admissionv1.AdmissionResponse {
	s.t.Helper()
	body, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Namespace: "n", Operation: admissionv1.Create, DryRun: &dryRun, Object: runtime.RawExtension{Raw: raw},
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.Post(s.url, "application/json", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(b, &answer); err != nil || answer.Response == nil {
		s.t.Fatalf("answered %s: %v", b, err)
	}
	return answer.Response
}

// newer is the pod as JSON, with a field that we know nothing of.
func newer(t *testing.T, p *corev1.Pod) []byte {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.Replace(string(b), `"spec":{`, `"spec":{"oxygenMask":"on",`, 1))
}

func TestTheAnswerAddsASidecarAndLeavesTheRestAlone(t *testing.T) {
	s := newServer(t)
	raw := newer(t, asks())
	r := s.review(raw, false)
	if !r.Allowed || r.PatchType == nil || *r.PatchType != admissionv1.PatchTypeJSONPatch || len(r.Warnings) != 0 {
		t.Fatalf("answered %+v", r)
	}
	patch, err := jsonpatch.DecodePatch(r.Patch)
	if err != nil {
		t.Fatal(err)
	}
	got, err := patch.Apply(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := newer(t, inject(t, asks()))
	want = bytes.Replace(want, []byte("registry.example/sidecar:1"), []byte("sidecar:1"), 1)
	if !jsonpatch.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if len(s.published) != 1 || s.published[0] != "n" {
		t.Errorf("published in %v", s.published)
	}
}

func TestADryRunPublishesNothing(t *testing.T) {
	s := newServer(t)
	if r := s.review(newer(t, asks()), true); !r.Allowed || len(r.Patch) == 0 || s.published != nil {
		t.Errorf("answered %+v, published in %v", r, s.published)
	}
}

// TestASidecarByHandIsTrustedToo: the label is then there for its keys.
func TestASidecarByHandIsTrustedToo(t *testing.T) {
	s := newServer(t)
	if r := s.review(newer(t, inject(t, asks())), false); !r.Allowed || len(r.Patch) != 0 || len(s.published) != 1 {
		t.Errorf("answered %+v, published in %v", r, s.published)
	}
}

func TestAPodThatDoesNotAskIsLetThrough(t *testing.T) {
	s := newServer(t)
	p := asks()
	p.Labels = nil
	if r := s.review(newer(t, p), false); !r.Allowed || len(r.Patch) != 0 || s.published != nil {
		t.Errorf("answered %+v, published in %v", r, s.published)
	}
}

func TestAnAuthorIsToldWhatToMend(t *testing.T) {
	s := newServer(t)
	p := asks()
	p.Annotations[PortsAnnotation] = "http"
	if r := s.review(newer(t, p), false); r.Allowed || !strings.Contains(r.Result.Message, PortsAnnotation) || s.published != nil {
		t.Errorf("answered %+v", r)
	}
}

// TestOurOwnFaultsKeepNoPodFromBeingMade, as failurePolicy does not for an answer.
func TestOurOwnFaultsKeepNoPodFromBeingMade(t *testing.T) {
	s := newServer(t)
	s.fail = errors.New("no API server")
	if r := s.review(newer(t, asks()), false); !r.Allowed || len(r.Patch) == 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], TrustName) {
		t.Errorf("answered %+v", r)
	}
	raw := bytes.Replace(newer(t, asks()), []byte(`"containers":[`), []byte(`"hostNetwork":"a new type",`+"\n"+`"containers":[`), 1)
	if r := s.review(raw, false); !r.Allowed || len(r.Patch) != 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "gets no sidecar") {
		t.Errorf("answered %+v", r)
	}
}
