package serve

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sidestep-dev/sidestep/internal/tracing"
	"github.com/sidestep-dev/sidestep/kube/watch"
)

// tracer is what Knative's config-observability asks for when the process starts, as
// in all parts of Knative. Events go on without spans where it cannot be had.
func (p *process) tracer(ctx context.Context) *tracing.Tracer {
	t, err := p.openTracer(ctx)
	if err != nil {
		p.Logger.Error("there will be no traces until the next start", "error", err)
	}
	return t
}

func (p *process) openTracer(ctx context.Context) (*tracing.Tracer, error) {
	cm := new(corev1.ConfigMap)
	err := p.cache.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: watch.ObservabilityName}, cm)
	if apierrors.IsNotFound(err) {
		cm.Name, err = watch.ObservabilityName, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", watch.ObservabilityName, err)
	}
	all, err := watch.Config(cm)
	if err != nil {
		return nil, err
	}
	c := tracing.Config{
		Protocol: all.Tracing.Protocol, Endpoint: all.Tracing.Endpoint, SamplingRate: all.Tracing.SamplingRate,
	}
	return tracing.Open(ctx, c.WithEnvironment(os.Getenv), tracing.Service, p.Logger)
}
