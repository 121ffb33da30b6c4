package tracing

import (
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidestep-dev/sidestep/channel"
)

const (
	client  = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ignored = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

func sameTree(t *testing.T, f *flow, want ...string) {
	t.Helper()
	if got := f.tree(); !slices.Equal(got, want) {
		t.Errorf("spans are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// context is what a step must have got to stand beneath a span.
func contextOfSpan(s *tracetest.SpanStub) string { return traceOf(s.SpanContext).String() }

func TestEachHopIsASpanBeneathTheOneBefore(t *testing.T) {
	t.Parallel()
	f := newFlow(t, sdk.ParentBased(sdk.NeverSample()),
		channel.Colocated, channel.Colocated, channel.Colocated, channel.Always, channel.Never)
	f.run(client)
	const in, a, b, c = "publish ns/c0", " > deliver ns/a", " > deliver ns/b", " > deliver ns/c"
	const d, stored = " > deliver ns/d", " > publish ns/c4"
	sameTree(t, f,
		"-: "+in,
		"stored: "+in+a,
		"colocated: "+in+a+b,
		"colocated: "+in+a+b+c,
		"short-circuited: "+in+a+b+c+d,
		"short-circuited: "+in+a+b+c+d+stored,
		"stored: "+in+a+b+c+d+stored+" > deliver ns/e",
	)
	for name, step := range map[string]string{"deliver ns/a": "a", "deliver ns/b": "b", "deliver ns/c": "c", "deliver ns/d": "d", "deliver ns/e": "e"} {
		s := f.span(name, 1)
		if got := f.contexts(step); !slices.Equal(got, []string{contextOfSpan(s)}) {
			t.Errorf("step %s got %q, want its span's %s", step, got, contextOfSpan(s))
		}
		if s.SpanContext.TraceID().String() != client[3:35] || s.SpanKind != trace.SpanKindClient || s.EndTime.Before(s.StartTime) {
			t.Errorf("%s is %v of trace %s, %v to %v", name, s.SpanKind, s.SpanContext.TraceID(), s.StartTime, s.EndTime)
		}
	}
	first := f.span(in, 1)
	if first.Parent.SpanID().String() != client[36:52] || !first.Parent.IsRemote() || first.SpanKind != trace.SpanKindProducer {
		t.Errorf("what ingress did is %v beneath %v", first.SpanKind, first.Parent)
	}
}

func TestASpanSaysWhatWasSentWhere(t *testing.T) {
	t.Parallel()
	f := newFlow(t, sdk.AlwaysSample(), channel.Colocated, channel.Colocated)
	f.run("")
	s := f.span("deliver ns/b", 1)
	for key, want := range map[string]string{
		"messaging.system": "knative", "messaging.operation.name": "deliver", "messaging.operation.type": "send",
		"messaging.destination.name": "ns/c1", "messaging.destination.subscription.name": "ns/b",
		"http.request.method": "POST", "http.response.status_code": "200", "url.full": f.steps["b"].URL, "server.address": "127.0.0.1",
		"cloudevents.event_source": "test", "cloudevents.event_spec_version": "1.0",
		"sidestep.leg": "step", "sidestep.travel": "colocated", "sidestep.pod": "p",
	} {
		found := ""
		for _, a := range s.Attributes {
			if string(a.Key) == key {
				found = a.Value.String()
			}
		}
		if found != want {
			t.Errorf("%s is %q, want %q", key, found, want)
		}
	}
	if s.Status.Code != codes.Unset {
		t.Errorf("its status is %v", s.Status)
	}
}

// What fails in a pod is a span as well, and what the durable path makes of it
// stands beneath the hop that made the event, as the failed one has made none.
func TestAFailureInAPodIsASpan(t *testing.T) {
	t.Parallel()
	f := newFlow(t, sdk.AlwaysSample(), channel.Colocated, channel.Colocated)
	f.mu.Lock()
	f.fail["b"] = 1
	f.mu.Unlock()
	f.run(client)
	const in, a = "publish ns/c0", " > deliver ns/a"
	sameTree(t, f,
		"-: "+in,
		"stored: "+in+a,
		"colocated: "+in+a+" > deliver ns/b",
		"colocated: "+in+a+" > spill ns/c1",
		"stored: "+in+a+" > spill ns/c1 > deliver ns/b",
	)
	failed := f.span("deliver ns/b", 1)
	if failed.Status.Code != codes.Error || valueOf(failed, "error.type") != "500" || valueOf(failed, "http.response.status_code") != "500" {
		t.Errorf("the failed attempt has status %v and %v", failed.Status, failed.Attributes)
	}
	if got := valueOf(f.span("spill ns/c1", 1), "sidestep.spill.reason"); got != "status" {
		t.Errorf("the spill's reason is %q", got)
	}
	again := f.span("deliver ns/b", 2)
	if again.Status.Code != codes.Unset || valueOf(again, "http.request.resend_count") != "1" {
		t.Errorf("the second attempt has status %v and %v", again.Status, again.Attributes)
	}
	want := []string{contextOfSpan(failed), contextOfSpan(again)}
	if got := f.contexts("b"); !slices.Equal(got, want) {
		t.Errorf("step b got %q, want %q", got, want)
	}
}

// Whoever decides not to record a trace has decided for all hops.
func TestATraceThatIsNotRecordedHasNoSpans(t *testing.T) {
	t.Parallel()
	for name, parent := range map[string]string{"of a client": ignored, "of ours": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFlow(t, sdk.ParentBased(sdk.NeverSample()), channel.Colocated, channel.Colocated, channel.Always, channel.Never)
			f.run(parent)
			sameTree(t, f)
			first := f.contexts("a")[0]
			if parent != "" && first != parent || !strings.HasSuffix(first, "-00") {
				t.Errorf("step a got %q", first)
			}
			for _, step := range []string{"b", "c", "d"} {
				if got := f.contexts(step); !slices.Equal(got, []string{first}) {
					t.Errorf("step %s got %q, want %q", step, got, first)
				}
			}
		})
	}
}
