package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/membackend"
	"github.com/sidestep-dev/sidestep/claimcheck"
	brokers "github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/watch"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// fakeServers opens backends in memory, and a folder.
type fakeServers struct {
	dir    string
	down   error
	opened []string
	stores map[string]*membackend.Store
}

func (f *fakeServers) Open(_ context.Context, s brokers.Spec, _ *slog.Logger) (backend.Backend, error) {
	if f.down != nil && s.Kind != manifest.BackendEmbedded {
		return nil, f.down
	}
	f.opened = append(f.opened, s.ID())
	if f.stores[s.ID()] == nil {
		f.stores[s.ID()] = membackend.NewStore(membackend.Options{})
	}
	return f.stores[s.ID()].Connect(), nil
}

func (*fakeServers) Renew(context.Context, brokers.Spec) error { return nil }
func (*fakeServers) Dial() (*nats.Conn, error)                 { return nil, errors.New("none") }

func (f *fakeServers) ClaimStore(c *manifest.ClaimCheck) string {
	if c.Store != "" {
		return c.Store
	}
	return "file://" + f.dir
}

func (*fakeServers) CompleteClaimStore(_ context.Context, url, _ string) (string, error) {
	return url, nil
}

// office is a System with the objects of an API server.
type office struct {
	*System
	t       *testing.T
	servers *fakeServers
	events  *events.FakeRecorder
	time    time.Time
	lookIn  func() error
	made    int // ConfigMaps
}

func newOffice(t *testing.T) *office {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	state := &corev1.ConfigMap{}
	state.Namespace, state.Name = "sys", broker.StateName
	c := fake.NewClientBuilder().WithScheme(s).WithObjects(state).Build()
	o := &office{
		t: t, time: time.Unix(1000, 0), events: events.NewFakeRecorder(10),
		servers: &fakeServers{dir: t.TempDir(), stores: map[string]*membackend.Store{}},
	}
	o.restart(c)
	return o
}

// restart is another controller that takes over.
func (o *office) restart(c client.Client) {
	o.t.Helper()
	keys, err := claimcheck.NewKeys(make([]byte, 32))
	if err != nil {
		o.t.Fatal(err)
	}
	s := &System{
		Reader: c, Client: c, Namespace: "sys", Servers: o.servers, Keys: keys, Events: o.events,
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return o.time },
	}
	s.Prepare()
	ctx, cancel := context.WithCancel(context.Background())
	o.t.Cleanup(func() {
		cancel()
		s.sweeping.Wait()
		if err := s.Close(context.Background()); err != nil {
			o.t.Error(err)
		}
	})
	o.System = s
	o.lookIn = func() error { return s.look(ctx) }
}

func (o *office) configure(data map[string]string) {
	o.t.Helper()
	cm := &corev1.ConfigMap{Data: data}
	o.made++
	cm.Namespace, cm.Name, cm.UID = "sys", watch.ConfigName, types.UID(fmt.Sprint(o.made))
	if err := client.IgnoreNotFound(o.Client.Delete(context.Background(), cm.DeepCopy())); err != nil {
		o.t.Fatal(err)
	}
	if err := o.Client.Create(context.Background(), cm); err != nil {
		o.t.Fatal(err)
	}
}

// written is the state as the API server has it.
func (o *office) written() *broker.State {
	o.t.Helper()
	cm := &corev1.ConfigMap{}
	if err := o.Client.Get(context.Background(), types.NamespacedName{Namespace: "sys", Name: broker.StateName}, cm); err != nil {
		o.t.Fatal(err)
	}
	s, err := broker.ReadState(cm)
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

func (o *office) want(home string, backends ...string) {
	o.t.Helper()
	s := o.written()
	if got := slices.Sorted(maps.Keys(s.Backends)); s.Homes.Default != home || !slices.Equal(got, backends) {
		o.t.Errorf("logs belong on %s, backends are %v; want %s and %v", s.Homes.Default, got, home, backends)
	}
	if got := o.pool.Swap.Members(); !slices.Equal(got, backends) {
		o.t.Errorf("open are %v, want %v", got, backends)
	}
}

func (o *office) problem() string {
	o.t.Helper()
	s, err := o.Settings(context.Background())
	if err != nil {
		o.t.Fatal(err)
	}
	if s.Problem == nil {
		return ""
	}
	return s.Problem.Error()
}

// A problem is reported once, and again as it is after a while.
func TestWhatIsTriedAgainIsReportedSeldom(t *testing.T) {
	o := newOffice(t)
	reported := func() (n int) {
		for len(o.events.Events) > 0 {
			<-o.events.Events
			n++
		}
		return n
	}
	o.configure(nats1())
	for i := range 3 {
		o.report(t.Context(), fmt.Errorf("port %d is closed", i))
	}
	if n := reported(); n != 1 || o.problem() != "port 0 is closed" {
		t.Errorf("reported %d times, problem %q", n, o.problem())
	}
	o.time = o.time.Add(reportAgain)
	o.report(t.Context(), errors.New("later"))
	o.configure(nats1())
	o.report(t.Context(), errors.New("another edit"))
	if n := reported(); n != 2 || o.problem() != "another edit" {
		t.Errorf("reported %d times, problem %q", n, o.problem())
	}
}

func nats1() map[string]string {
	return map[string]string{"backend": "nats", "nats": "url: nats://one:1"}
}

var nats1ID = brokers.Spec{Kind: "nats", NATS: manifest.NATS{URL: "nats://one:1"}}.ID()

func TestWhatCannotBeUsedLeavesWhatIsInEffect(t *testing.T) {
	o := newOffice(t)
	starting := func() bool {
		t.Helper()
		s, err := o.Settings(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s.Starting
	}
	if _, err := o.Backend(context.Background()); !errors.Is(err, errStarting) || !starting() {
		t.Errorf("before it was looked at: %v", err)
	}
	if err := o.lookIn(); err != nil {
		t.Fatal(err)
	}
	o.want("embedded", "embedded")

	o.configure(map[string]string{"backend": "paper"})
	if err := o.lookIn(); err != nil {
		t.Fatal(err)
	}
	if got := o.problem(); !strings.Contains(got, "want embedded, nats or kafka") {
		t.Errorf("the problem is %q", got)
	}
	select {
	case e := <-o.events.Events:
		if !strings.Contains(e, "ConfigRefused") || !strings.Contains(e, "want embedded, nats or kafka") {
			t.Errorf("the event is %s", e)
		}
	default:
		t.Error("there is no event")
	}
	o.want("embedded", "embedded")

	// Nor does one that is away; a controller that takes over goes on with what was.
	o.servers.down = errors.New("nobody at home")
	o.configure(nats1())
	o.restart(o.Client)
	if !starting() {
		t.Error("channels are reconciled before it is known what is in effect")
	}
	for range 2 {
		if err := o.lookIn(); err == nil || !strings.Contains(err.Error(), "nobody at home") {
			t.Errorf("got %v", err)
		}
		if starting() {
			t.Error("channels wait for what has never been in effect")
		}
	}
	if _, err := o.Backend(context.Background()); err != nil {
		t.Error(err)
	}
	o.want("embedded", "embedded")
	o.servers.down = nil
	if err := o.lookIn(); err != nil {
		t.Fatal(err)
	}
	if got := o.problem(); got != "" {
		t.Errorf("the problem is still %q", got)
	}
	o.want(nats1ID, "embedded", nats1ID)
}

// The sweeper forgets a store while another configuration is put into effect: neither
// undoes what the other wrote.
func TestChangesOfTheStateAreOneAfterTheOther(t *testing.T) {
	o := newOffice(t)
	if err := o.lookIn(); err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	const n = 20
	for i := range n {
		g.Go(func() error {
			return o.update(t.Context(), func(s *broker.State) {
				if s.ClaimSecrets == nil {
					s.ClaimSecrets = make(map[string]string)
				}
				s.ClaimSecrets[fmt.Sprint(i)] = "secret"
			})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := len(o.written().ClaimSecrets); got < n {
		t.Errorf("%d of %d changes are there", got, n)
	}
}

// A backend that no log is on is let go; one that a log is on stays, also for a
// controller that takes over and knows it by the state alone.
func TestABackendIsLetGoOnceNoLogIsOnIt(t *testing.T) {
	o := newOffice(t)
	look := func(later time.Duration) {
		t.Helper()
		o.time = o.time.Add(later)
		if err := o.lookIn(); err != nil {
			t.Fatal(err)
		}
	}
	o.configure(nats1())
	look(0)
	c := named("c")
	c.Status.Place = &v1alpha1.Place{Home: "embedded", Former: []string{nats1ID}}
	if err := o.Client.Create(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	o.configure(nil)
	look(0)
	look(2 * unusedFor)
	o.want("embedded", "embedded", nats1ID)
	o.restart(o.Client)
	look(0)
	o.want("embedded", "embedded", nats1ID)
	c.Status.Place.Former = nil
	if err := o.Client.Update(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	look(2 * unusedFor)
	o.want("embedded", "embedded", nats1ID) // a cache may be behind
	look(2 * unusedFor)
	o.want("embedded", "embedded")
}

// What is unsettled keeps payloads, wherever the log is; what cannot be asked keeps all.
func TestTheOldestRecordIsLookedForWhereverTheLogIs(t *testing.T) {
	o := newOffice(t)
	o.configure(nats1())
	if err := o.lookIn(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	m := o.pool.Swap.Member(nats1ID)
	_, err := m.EnsureLog(ctx, backend.Log{Name: "n/c"})
	if err := errors.Join(err, m.EnsureGroup(ctx, "n/c", backend.Group{Name: "a"}), m.Publish(ctx, "n/c", &backend.Record{Data: []byte("x")})); err != nil {
		t.Fatal(err)
	}
	c := named("c")
	c.Status.Positions = []v1alpha1.Position{at(v1alpha1.Held, sub("a", 1), 0), at(v1alpha1.Pending, sub("b", 1), -1)}
	c.Status.Place = &v1alpha1.Place{Home: "embedded"}
	if err := o.Client.Create(ctx, c); err != nil {
		t.Fatal(err)
	}
	look := func(place v1alpha1.Place) (time.Time, error) {
		t.Helper()
		c.Status.Place = &place
		if err := o.Client.Update(ctx, c); err != nil {
			t.Fatal(err)
		}
		if err := o.pool.Add(ctx, brokers.Spec{Kind: manifest.BackendEmbedded}, 1); err != nil {
			t.Fatal(err)
		}
		return o.oldest(ctx, "n")
	}
	if got, err := look(v1alpha1.Place{Home: "embedded"}); err != nil || !got.IsZero() {
		t.Errorf("where there is none: %v, %v", got, err)
	}
	for _, place := range []v1alpha1.Place{{Home: nats1ID}, {Home: "embedded", Next: nats1ID}, {Home: "embedded", Former: []string{nats1ID}}} {
		if got, err := look(place); err != nil || got.IsZero() {
			t.Errorf("%+v: %v, %v", place, got, err)
		}
	}
	if _, err := look(v1alpha1.Place{Home: "kafka-gone"}); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("where nobody can be asked: %v", err)
	}
}

func TestEarlyDeletionIsTakenBackBeforeAGroupIsMade(t *testing.T) {
	active := func(uid string) v1alpha1.Position { return at(v1alpha1.Active, sub(uid, 1), -1) }
	tests := []struct {
		was       v1alpha1.EarlyDeletion
		positions []v1alpha1.Position
		want      v1alpha1.EarlyDeletion
	}{
		{v1alpha1.EarlyAllowed, []v1alpha1.Position{active("a")}, v1alpha1.EarlyAllowed},
		{v1alpha1.EarlyAllowed, []v1alpha1.Position{active("a"), at(v1alpha1.Pending, sub("b", 1), -1)}, v1alpha1.EarlyEnding},
		{v1alpha1.EarlyAllowed, []v1alpha1.Position{at(v1alpha1.Draining, sub("a", 1), 0)}, v1alpha1.EarlyEnding},
		{v1alpha1.EarlyAllowed, nil, v1alpha1.EarlyEnding},
		{v1alpha1.EarlyEnding, []v1alpha1.Position{active("a")}, v1alpha1.EarlyEnding},
		{"", []v1alpha1.Position{active("a"), active("b")}, ""},
	}
	for _, tt := range tests {
		c := named("c")
		c.Status.EarlyDeletion, c.Status.Positions = tt.was, tt.positions
		w := &work{c: c}
		if changed := w.endEarlyDeletion(); c.Status.EarlyDeletion != tt.want || changed != (tt.was != tt.want) {
			t.Errorf("%q with %s: %q, changed %v; want %q", tt.was, show(tt.positions), c.Status.EarlyDeletion, changed, tt.want)
		}
	}
}

// What dispatchers apply with a restart alone is said once, when it is changed.
func TestASettingThatNeedsARestartIsSaid(t *testing.T) {
	o := newOffice(t)
	told := func() (all []string) {
		t.Helper()
		if err := o.lookIn(); err != nil {
			t.Fatal(err)
		}
		for {
			select {
			case e := <-o.events.Events:
				all = append(all, e)
			default:
				return all
			}
		}
	}
	o.configure(map[string]string{"dispatch": "maxInFlight: 8"})
	if got := told(); len(got) != 0 {
		t.Errorf("the first settings are told of: %q", got)
	}
	o.configure(map[string]string{"dispatch": "maxInFlight: 9\nbyteBudget: 32Mi", "claim-check": "ttl: 2h\nthreshold: 1Ki"})
	got := told()
	if len(got) != 1 || !strings.Contains(got[0], "RestartNeeded") || !strings.Contains(got[0], "claim-check.ttl, dispatch.maxInFlight when") {
		t.Errorf("told is %q", got)
	}
	if got := told(); len(got) != 0 {
		t.Errorf("told again: %q", got)
	}
	o.configure(map[string]string{"dispatch": "maxInFlight: 9\nbyteBudget: 64Mi\ncheckpointAfter: 2s", "claim-check": "ttl: 2h\nmaxEventBytes: 1Mi\nlinkTTL: 2m"})
	if got := told(); len(got) != 0 {
		t.Errorf("what is applied at once is told of: %q", got)
	}
}

func TestAThresholdThatABackendDoesNotTakeIsRefused(t *testing.T) {
	o := newOffice(t)
	o.configure(nil)
	if err := o.lookIn(); err != nil {
		t.Fatal(err)
	}
	o.configure(map[string]string{"claim-check": "threshold: 1Gi\nmaxStructuredBytes: 1Gi"})
	if err := o.lookIn(); err == nil || !strings.Contains(err.Error(), "claim-check.threshold") {
		t.Errorf("got %v", err)
	}
	if got := o.written().Config.ClaimCheck.Threshold; got != 256<<10 {
		t.Errorf("the threshold in effect is %d", got)
	}
}
