package inject

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Path is where the API server asks.
const Path = "/inject"

// Webhook answers the API server.
type Webhook struct {
	// Image of sidecars.
	Image string
	// Trust has what a sidecar trusts published in a namespace.
	Trust  func(ctx context.Context, namespace string) error
	Logger *slog.Logger
}

// Handle implements admission.Handler. It refuses what the pod's author has to mend,
// and nothing else: an answer of ours that says no counts, whatever failurePolicy is.
func (w *Webhook) Handle(ctx context.Context, r admission.Request) admission.Response {
	var was corev1.Pod
	if err := json.Unmarshal(r.Object.Raw, &was); err != nil {
		return w.failed(&r, err)
	}
	is := was.DeepCopy()
	if err := Inject(is, w.Image); err != nil {
		return admission.Denied(err.Error())
	}
	patch, err := difference(&was, is)
	if err != nil {
		return w.failed(&r, err)
	}
	response := admission.Patched("", patch...)
	if is.Labels[Label] != "true" || r.DryRun != nil && *r.DryRun {
		return response
	}
	if err := w.Trust(ctx, r.Namespace); err != nil {
		// It is tried again with the next pod, and the sidecar waits for it.
		w.Logger.Error("the keys that sidecars trust cannot be published", "namespace", r.Namespace, "error", err)
		return response.WithWarnings("Sidestep: the sidecar waits for the ConfigMap " + TrustName + ": " + err.Error())
	}
	return response
}

// failed lets a pod in as it is.
func (w *Webhook) failed(r *admission.Request, err error) admission.Response {
	w.Logger.Error("a pod gets no sidecar", "namespace", r.Namespace, "pod", r.Name, "error", err)
	return admission.Allowed("").WithWarnings("Sidestep: the pod gets no sidecar: " + err.Error())
}

// difference is what was changed, and no more: a field that is newer than what we know
// of pods is in neither, and stays.
func difference(was, is *corev1.Pod) ([]jsonpatch.Operation, error) {
	a, err := json.Marshal(was)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(is)
	if err != nil {
		return nil, err
	}
	return jsonpatch.CreatePatch(a, b)
}

// Handler serves a Webhook.
func Handler(w *Webhook) http.Handler { return &admission.Webhook{Handler: w} }
