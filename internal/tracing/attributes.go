package tracing

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
)

// system is what we are a part of.
const system = "knative"

// operation is what a hop does, in a word.
func operation(h *channel.Hop) string {
	switch {
	case h.Leg == channel.ToSpill:
		return "spill"
	case h.Leg == channel.ToDeadLetter:
		return "dead-letter"
	case h.Stores:
		return "publish"
	case h.Leg == channel.ToReply:
		return "reply"
	}
	return "deliver"
}

// destination is where a hop leads: the channel that stores the event, or the
// subscription whose step, reply or dead letter sink gets it.
func destination(h *channel.Hop) string {
	if h.Stores {
		return h.Dest
	}
	return h.Subscription.Namespace + "/" + h.Subscription.Name
}

// name of a span: of few values, whatever the events.
func name(h *channel.Hop) string { return operation(h) + " " + destination(h) }

// describeHop sets a span's attributes and status once the hop is over.
func describeHop(s trace.Span, h *channel.Hop) {
	e := h.Event
	all := make([]attribute.KeyValue, 0, 24)
	all = append(all,
		semconv.MessagingSystemKey.String(system),
		semconv.MessagingOperationName(operation(h)),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingMessageID(e.ID),
		semconv.MessagingMessageBodySize(int(e.Size())),
		semconv.CloudEventsEventID(e.ID),
		semconv.CloudEventsEventSource(e.Source),
		semconv.CloudEventsEventType(e.Type),
		semconv.CloudEventsEventSpecVersion(e.SpecVersion),
		attribute.String("sidestep.leg", h.Leg.String()),
	)
	if subject := e.Get("subject"); subject != "" {
		all = append(all, semconv.CloudEventsEventSubject(subject))
	}
	if h.Subscription == nil || h.Stores {
		all = append(all, semconv.MessagingDestinationName(h.Dest))
	} else {
		all = append(all, semconv.MessagingDestinationName(h.Channel.Namespace+"/"+h.Channel.Name))
	}
	if h.Subscription != nil {
		all = append(all,
			semconv.MessagingDestinationSubscriptionName(h.Subscription.Namespace+"/"+h.Subscription.Name),
			attribute.String("sidestep.travel", h.Travel.String()))
	}
	if h.Pod != "" {
		all = append(all, attribute.String("sidestep.pod", h.Pod))
	}
	if h.Spilled != channel.NoSpill {
		all = append(all, attribute.String("sidestep.spill.reason", h.Spilled.String()))
	}
	if h.Reference {
		all = append(all, attribute.Bool("sidestep.reference", true))
	}
	if !h.Stores {
		all = appendHTTP(all, h)
	}
	if err := h.Result.Err; err != nil {
		all = append(all, semconv.ErrorTypeKey.String(errorType(h.Result)))
		s.SetStatus(codes.Error, err.Error())
	}
	s.SetAttributes(all...)
}

// appendHTTP appends what the conventions want of a client's request.
func appendHTTP(all []attribute.KeyValue, h *channel.Hop) []attribute.KeyValue {
	all = append(all, semconv.HTTPRequestMethodPost, semconv.URLFull(h.Dest))
	if u, err := url.Parse(h.Dest); err == nil {
		all = append(all, semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port(u)))
	}
	if h.Result.Status != 0 {
		all = append(all, semconv.HTTPResponseStatusCode(h.Result.Status))
	}
	if h.Attempt > 1 {
		all = append(all, semconv.HTTPRequestResendCount(h.Attempt-1))
	}
	return all
}

func port(u *url.URL) int {
	if p, err := strconv.Atoi(u.Port()); err == nil {
		return p
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

// errorType is of few values: the status, or what kept one from coming.
func errorType(r *egress.Result) string {
	var timeout net.Error
	switch {
	case r.Status != 0 && (r.Status < http.StatusOK || r.Status > 299):
		return strconv.Itoa(r.Status)
	case errors.Is(r.Err, context.DeadlineExceeded), errors.As(r.Err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(r.Err, egress.ErrReply):
		return "reply"
	case errors.Is(r.Err, egress.ErrPayload):
		return "payload"
	case errors.Is(r.Err, egress.ErrDial):
		return "connect"
	}
	return semconv.ErrorTypeOther.Value.AsString()
}
