package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/auth"
	policylisters "knative.dev/eventing/pkg/client/listers/eventing/v1alpha1"
	"knative.dev/eventing/pkg/eventingtls"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/logging"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/channel/ingress"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/watch"
)

// verifierPause is how long to wait before the API server is asked again for the
// keys that tokens are signed with.
const verifierPause = 5 * time.Second

// gate decides who may send, and identifies what is sent.
type gate struct {
	features func() feature.Flags
	object   func(key string) *v1alpha1.SidestepChannel
	policies policylisters.EventPolicyLister
	bundles  corev1listers.ConfigMapNamespaceLister
	tokens   *auth.OIDCTokenProvider
	// verify tells whether a token is of the subject and for the audience.
	verify func(ctx context.Context, flags feature.Flags, audience, subject, authorization string) error
	logger *slog.Logger

	known tokens

	// ctx has what Knative's code takes from one: the REST config, the client
	// and a logger.
	ctx context.Context //nolint:containedctx // see above

	mu       sync.Mutex
	verifier *auth.Verifier
	tried    time.Time
}

// indexed is the index of an informer of the cache.
func (p *process) indexed(ctx context.Context, of client.Object) (toolscache.Indexer, error) {
	i, err := p.cache.GetInformer(ctx, of)
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", of, err)
	}
	shared, ok := i.(interface{ GetIndexer() toolscache.Indexer })
	if !ok {
		return nil, fmt.Errorf("watch %T: an informer without an index", of)
	}
	return shared.GetIndexer(), nil
}

func newGate(ctx context.Context, p *process) (*gate, error) {
	policies, err := p.indexed(ctx, &eventingv1alpha1.EventPolicy{})
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(p.API)
	if err != nil {
		return nil, err
	}
	// What Knative's code has to say is in the errors that it returns.
	ctx = logging.WithLogger(ctx, zap.NewNop().Sugar())
	ctx = injection.WithConfig(ctx, p.API)
	ctx = context.WithValue(ctx, kubeclient.Key{}, kube)
	g := &gate{
		features: p.watcher.Features,
		object:   p.watcher.Channel,
		policies: policylisters.NewEventPolicyLister(policies),
		bundles:  bundles{p.cache, p.Namespace},
		tokens:   auth.NewOIDCTokenProvider(ctx),
		logger:   p.Logger,
		ctx:      ctx,
	}
	g.verify = g.verifyToken
	return g, nil
}

// token is egress.Config.Token.
func (g *gate) token(_ context.Context, identity, audience string) (string, error) {
	namespace, name, _ := strings.Cut(identity, "/")
	return g.tokens.GetJWT(types.NamespacedName{Namespace: namespace, Name: name}, audience)
}

// clientTLS is egress.Config.TLS: what Knative's clients trust.
func (g *gate) clientTLS(caCerts string) (*tls.Config, error) {
	return eventingtls.GetTLSClientConfig(eventingtls.ClientConfig{CACerts: &caCerts, TrustBundleConfigMapLister: g.bundles})
}

// admit is ingress.Handler.Admit for requests with TLS, or without.
func (g *gate) admit(secure bool) func(context.Context, *channel.Channel, string) (func(*event.Event) error, error) {
	return func(ctx context.Context, c *channel.Channel, authorization string) (func(*event.Event) error, error) {
		flags := g.features()
		switch {
		case !secure && flags.IsStrictTransportEncryption():
			return nil, ingress.Refuse(http.StatusNotFound, "transport-encryption is strict: send to the https address of the channel")
		case secure && !flags.IsStrictTransportEncryption() && !flags.IsPermissiveTransportEncryption():
			return nil, ingress.Refuse(http.StatusNotFound, "transport-encryption is disabled: send to the http address of the channel")
		case !flags.IsOIDCAuthentication():
			return nil, nil
		}
		return g.authenticate(ctx, flags, c, authorization)
	}
}

// authenticate verifies the token, and returns what decides about the event.
func (g *gate) authenticate(
	ctx context.Context, flags feature.Flags, c *channel.Channel, authorization string,
) (func(*event.Event) error, error) {
	object := g.object(watch.Key(c.Namespace, c.Name))
	if object == nil {
		return nil, ingress.Refuse(http.StatusNotFound, "the channel is being removed")
	}
	subject, expires, err := subjectOf(authorization)
	if err != nil {
		return nil, ingress.Refuse(http.StatusUnauthorized, err.Error())
	}
	audience := auth.GetAudience(object.GetGroupVersionKind(), object.ObjectMeta)
	key := keyOf(audience, authorization)
	if !g.known.has(key) {
		err := g.verify(ctx, flags, audience, subject, authorization)
		if errors.Is(err, errNoKeys) {
			return nil, err
		}
		if err != nil {
			g.logger.Debug("a token is refused", "channel", watch.Key(c.Namespace, c.Name), "error", err)
			return nil, ingress.Refuse(http.StatusUnauthorized, "the token cannot be verified for the audience "+audience)
		}
		g.known.add(key, expires)
	}
	return g.authorize(flags, object, subject)
}

var errNoKeys = errors.New("the keys that tokens are signed with are not known yet")

// verifyToken is gate.verify.
func (g *gate) verifyToken(ctx context.Context, flags feature.Flags, audience, subject, authorization string) error {
	v := g.ready()
	if v == nil {
		return errNoKeys
	}
	req := (&http.Request{Method: http.MethodPost, Header: http.Header{}, Body: http.NoBody}).WithContext(ctx)
	req.Header.Set(auth.AuthHeaderKey, authorization)
	// The verifier's own way to say whose token it is: it is the subject's if
	// the request is found to be from it.
	return v.VerifyRequestFromSubject(ctx, flags, &audience, subject, req, discard{})
}

// authorize applies the policies of a channel, as Knative's Verifier does; some
// need the event.
func (g *gate) authorize(flags feature.Flags, c *v1alpha1.SidestepChannel, subject string) (func(*event.Event) error, error) {
	refused := ingress.Refuse(http.StatusForbidden, subject+" may not send to the channel")
	if len(c.Status.Policies) > 0 {
		allowed, err := auth.SubjectWithFiltersFromPolicyRef(g.policies, c.Namespace, c.Status.Policies)
		if err != nil {
			return nil, fmt.Errorf("look at EventPolicies: %w", err)
		}
		return func(e *event.Event) error {
			ce, err := cloudEvent(g.ctx, e)
			if err != nil {
				return ingress.Refuse(http.StatusBadRequest, err.Error())
			}
			if !auth.SubjectAndFiltersPass(g.ctx, subject, allowed, ce, logging.FromContext(g.ctx)) {
				return refused
			}
			return nil
		}, nil
	}
	switch {
	case flags.IsAuthorizationDefaultModeDenyAll():
		return nil, refused
	case flags.IsAuthorizationDefaultModeSameNamespace() && !strings.HasPrefix(subject, "system:serviceaccount:"+c.Namespace+":"):
		return nil, refused
	}
	return nil, nil
}

// cloudEvent is e for a policy's filters, which look at attributes only.
func cloudEvent(ctx context.Context, e *event.Event) (*cloudevents.Event, error) {
	header := http.Header{}
	event.AppendHTTPHeader(header.Add, e)
	m := cehttp.NewMessage(header, http.NoBody)
	defer m.Finish(nil)
	return binding.ToEvent(ctx, m)
}

// ready is the verifier once it has keys, or nil.
func (g *gate) ready() *auth.Verifier {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.verifier != nil && g.verifier.IsReady() {
		return g.verifier
	}
	if time.Since(g.tried) < verifierPause {
		return nil
	}
	g.tried = time.Now()
	g.verifier = auth.NewVerifier(g.ctx, g.policies, g.bundles, &once{g.features()})
	if !g.verifier.IsReady() {
		return nil
	}
	return g.verifier
}

// once is a configmap.Watcher that tells the features of the moment: whoever reads
// them later is given them with each request.
type once struct{ flags feature.Flags }

func (o *once) Watch(name string, observers ...configmap.Observer) {
	cm := &corev1.ConfigMap{Data: make(map[string]string, len(o.flags))}
	cm.Name = name
	for k, v := range o.flags {
		cm.Data[k] = string(v)
	}
	for _, observe := range observers {
		observe(cm)
	}
}

// Start implements configmap.Watcher.
func (o *once) Start(<-chan struct{}) error { return nil }

// discard takes what the verifier answers: the answer is ours to make.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
