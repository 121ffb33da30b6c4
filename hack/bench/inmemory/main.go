// Command inmemory is the data plane of eventing's in-memory channel in one
// process: its own packages, put together as
// knative.dev/eventing/pkg/reconciler/inmemorychannel/dispatcher puts them
// together, with five channels wired as a Sequence. It takes the address of
// the steps as its argument. It is a program of its own so that the other
// contenders do not carry what its packages bring along.
//
//	POST /bench/bench-kn-sequence-0 -> fanout handler -> step 1
//	POST /bench/bench-kn-sequence-1 <----- its answer ------+
//	...
//
// As shipped: synchronous (no async-handler annotation), so the 202 is written
// when the whole chain has run; 1000 idle connections per host; metrics and
// tracing at their default, off; logging at info; no delivery spec, so no
// retries. Two things differ from a cluster: it listens on loopback only, and
// channels are told apart by path rather than by host, so that their URLs need
// no DNS (the shipped dispatcher serves both).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/channel"
	"knative.dev/eventing/pkg/channel/fanout"
	"knative.dev/eventing/pkg/channel/multichannelfanout"
	"knative.dev/eventing/pkg/eventingtls"
	"knative.dev/eventing/pkg/kncloudevents"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/network/handlers"
	"knative.dev/pkg/observability/metrics"
	"knative.dev/pkg/observability/tracing"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

const namespace = "bench"

func main() {
	flag.Parse()
	if err := run(flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "inmemory:", err)
		os.Exit(1)
	}
}

func run(steps string) error {
	ctx, cancel := process.WithParent(context.Background())
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	base := "http://" + l.Addr().String()
	channels, err := newChannels(ctx, base, steps)
	if err != nil {
		return err
	}
	// What HTTPEventReceiver.StartListen serves, on our listener.
	s := &http.Server{
		ReadTimeout: 15 * time.Minute,
		Handler:     &handlers.Drainer{Inner: kncloudevents.CreateHandler(channels)},
	}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := process.Announce(process.Ready{URL: channelURL(base, 0)}); err != nil {
		return err
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the channels: %w", err)
	}
	return nil
}

func channelName(i int) string             { return fmt.Sprintf("bench-kn-sequence-%d", i) }
func channelURL(base string, i int) string { return base + "/" + namespace + "/" + channelName(i) }

// newChannels does what the in-memory channel's reconciler does for the five
// channels of a Sequence.
func newChannels(ctx context.Context, base, steps string) (http.Handler, error) {
	logger, err := newLogger()
	if err != nil {
		return nil, err
	}
	mp, err := metrics.NewMeterProvider(ctx, metrics.DefaultConfig())
	if err != nil {
		return nil, fmt.Errorf("make the meter provider: %w", err)
	}
	tp, err := tracing.NewTracerProvider(ctx, tracing.DefaultConfig())
	if err != nil {
		return nil, fmt.Errorf("make the tracer provider: %w", err)
	}
	otel.SetTextMapPropagator(tracing.DefaultTextMapPropagator())
	features := feature.FromContextOrDefaults(ctx)
	kncloudevents.ConfigureConnectionArgs(&kncloudevents.ConnectionArgs{MaxIdleConns: 1000, MaxIdleConnsPerHost: 1000})
	dispatcher := kncloudevents.NewDispatcher(eventingtls.ClientConfig{}, nil,
		kncloudevents.WithMeterProvider(mp), kncloudevents.WithTraceProvider(tp))

	all := multichannelfanout.NewEventHandler(ctx, logger)
	for i := range workload.Steps {
		sub, err := subscription(i, base, steps)
		if err != nil {
			return nil, err
		}
		h, err := fanout.NewFanoutEventHandler(logger,
			fanout.Config{Subscriptions: []fanout.Subscription{*sub}}, // AsyncHandler: false
			nil, nil, nil, // no automatic event types: the feature is off by default
			dispatcher, mp, tp,
			channel.ResolveChannelFromPath(channel.ParseChannelFromPath),
			channel.OIDCTokenVerification(nil, ""), // never asked: the feature is off by default
			channel.ReceiverWithContextFunc(func(ctx context.Context) context.Context {
				return feature.ToContext(ctx, features)
			}),
		)
		if err != nil {
			return nil, fmt.Errorf("make the handler of channel %d: %w", i, err)
		}
		all.SetChannelHandler(namespace+"/"+channelName(i), h)
		kncloudevents.AddOrUpdateAddressableHandler(eventingtls.ClientConfig{}, sub.Subscriber, mp, tp)
		if sub.Reply != nil {
			kncloudevents.AddOrUpdateAddressableHandler(eventingtls.ClientConfig{}, *sub.Reply, mp, tp)
		}
	}
	return all, nil
}

// subscription of step i+1 to channel i, which replies to channel i+1; the last
// one has no reply.
func subscription(i int, base, steps string) (*fanout.Subscription, error) {
	step, err := apis.ParseURL(workload.StepURL(steps, i+1))
	if err != nil {
		return nil, fmt.Errorf("parse the address of the steps: %w", err)
	}
	name := channelName(i)
	spec := eventingduckv1.SubscriberSpec{
		Name:          &name,
		UID:           types.UID(name),
		SubscriberURI: step,
	}
	if i+1 < workload.Steps {
		spec.ReplyURI, err = apis.ParseURL(channelURL(base, i+1))
		if err != nil {
			return nil, fmt.Errorf("parse the address of a channel: %w", err)
		}
	}
	sub, err := fanout.SubscriberSpecToFanoutConfig(spec)
	if err != nil {
		return nil, fmt.Errorf("make subscription %d: %w", i, err)
	}
	sub.Namespace = namespace
	return sub, nil
}

func newLogger() (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	config.OutputPaths = []string{"stderr"} // stdout is the parent's
	logger, err := config.Build()
	if err != nil {
		return nil, fmt.Errorf("make the logger: %w", err)
	}
	return logger, nil
}
