package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/eventing/pkg/eventingtls"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// certificates are the server's certificate, as it is in a Secret just now.
type certificates struct {
	reader client.Reader
	secret types.NamespacedName

	mu      sync.Mutex
	version string // of the Secret that current is from
	current *tls.Certificate
}

var errNoCertificate = errors.New("there is no certificate")

// get implements tls.Config.GetCertificate.
func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := new(corev1.Secret)
	err := c.reader.Get(hello.Context(), c.secret, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && s.ResourceVersion != c.version {
		pair, bad := tls.X509KeyPair(s.Data[eventingtls.TLSCrt], s.Data[eventingtls.TLSKey])
		if bad == nil {
			c.version, c.current = s.ResourceVersion, &pair
		} else {
			err = fmt.Errorf("certificate in Secret %s: %w", c.secret, bad)
		}
	}
	switch {
	case c.current != nil:
		return c.current, nil // the last good one
	case err != nil:
		return nil, err
	}
	return nil, errNoCertificate
}

// serverTLS is Knative's own configuration of a server (TLS 1.3 unless the
// environment says otherwise), with the certificate of the moment.
func (p *process) serverTLS(ctx context.Context) (*tls.Config, error) {
	if _, err := p.cache.GetInformer(ctx, &corev1.Secret{}); err != nil {
		return nil, fmt.Errorf("watch the certificate: %w", err)
	}
	certs := &certificates{reader: p.cache, secret: types.NamespacedName{Namespace: p.Namespace, Name: p.TLSSecret}}
	c, err := eventingtls.GetTLSServerConfig(eventingtls.ServerConfig{GetCertificate: certs.get})
	if err != nil {
		return nil, fmt.Errorf("configure TLS: %w", err)
	}
	return c, nil
}
