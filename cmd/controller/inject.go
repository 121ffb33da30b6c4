package main

import (
	"context"
	"crypto/tls"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/sidestep-dev/sidestep/kube/inject"
)

// injectorService is the webhook's.
const injectorService = "sidestep-injector"

// webhookServer shows the certificate that a Keeper has. It runs only if something is
// registered.
func webhookServer(port int, k *inject.Keeper) webhook.Server {
	return webhook.NewServer(webhook.Options{Port: port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS13
		c.NextProtos = []string{"http/1.1"}
		c.GetCertificate = k.Certificate
	}}})
}

// addInjection has a manager publish the keys that sidecars trust, and put sidecars
// into pods.
func addInjection(ctx context.Context, m manager.Manager, direct client.Client, k *inject.Keeper, o options) error {
	trust, err := inject.NewTrustCache(m.GetConfig(), m.GetScheme())
	if err != nil {
		return err
	}
	k.Client, k.TrustCache, k.Namespace, k.Logger = direct, trust, o.namespace, o.logger
	k.Host = injectorService + "." + o.namespace + ".svc"
	if err := k.Load(ctx); err != nil {
		return err
	}
	for _, r := range []manager.Runnable{trust, k} {
		if err := m.Add(r); err != nil {
			return err
		}
	}
	if o.sidecarImage == "" {
		return nil
	}
	m.GetWebhookServer().Register(inject.Path, inject.Handler(&inject.Webhook{Image: o.sidecarImage, Trust: k.Trust, Logger: o.logger}))
	if err := m.AddReadyzCheck("webhook", m.GetWebhookServer().StartedChecker()); err != nil {
		return fmt.Errorf("add check: %w", err)
	}
	return nil
}
