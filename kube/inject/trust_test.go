package inject

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// A replica that does not lead lets pods in as well, and has to publish what they trust.
func TestTheKeysArePublishedByReplicasThatDoNotLead(t *testing.T) {
	t.Parallel()
	kinds := map[string]string{
		"/api":    `{"kind": "APIVersions", "versions": ["v1"]}`,
		"/apis":   `{"kind": "APIGroupList", "apiVersion": "v1", "groups": []}`,
		"/api/v1": `{"kind": "APIResourceList", "groupVersion": "v1", "resources": [{"name": "configmaps", "namespaced": true, "kind": "ConfigMap", "verbs": ["list"]}]}`,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, kinds[r.URL.Path]) //nolint:errcheck // see the client
	}))
	defer s.Close()
	c, err := NewTrustCache(&rest.Config{Host: s.URL}, clientgoscheme.Scheme)
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := c.(manager.LeaderElectionRunnable); !ok || r.NeedLeaderElection() {
		t.Error("a manager starts the cache where it leads alone")
	}
}
