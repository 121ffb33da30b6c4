package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/sidestep-dev/sidestep/internal/rollcall"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// How often dispatchers are asked: soon after something was written, and then
// ever more seldom.
const (
	askFirst   = 10 * time.Millisecond
	askMost    = time.Second
	askTimeout = 2 * time.Second
)

// want is what has to be known of a channel.
type want struct {
	uid types.UID
	// subscriptions that every dispatcher is to deliver to: generations by UID.
	subscriptions map[types.UID]int64
	// without are subscriptions that none is to know any more.
	without []types.UID
	// place is where every one has to be with the log, nil for wherever it is; and uses
	// the ID of a backend that it has to have opened, "" for none.
	place *rollcall.Place
	uses  string
	// shared: none may delete a payload early any more.
	shared bool
}

// finding is what dispatchers say about a want. Texts are for users.
type finding struct {
	// replicas that are asked; none is a finding, too.
	replicas int
	// unknown is which of them does not resolve the channel, "" for none;
	// unclosed which of them may still take events for it, and present which
	// still works with it.
	unknown, unclosed, present string
	// elsewhere is which of them is not where want.place says, or does not use want.uses;
	// alone which may still delete payloads early; "" for none.
	elsewhere, alone string
	// missing is why a subscription is not delivered to, by UID; none for those
	// that are.
	missing map[types.UID]string
	// lingering are those of want.without that some still know.
	lingering map[types.UID]bool
}

// reply of one dispatcher.
type reply struct {
	replica string
	answer  *rollcall.Answer
	err     error
}

// look sums up what the dispatchers answered.
func (w *want) look(key string, replies []reply) finding {
	f := finding{replicas: len(replies), missing: map[types.UID]string{}, lingering: map[types.UID]bool{}}
	note := func(to *string, r *reply, why string) {
		if *to == "" {
			*to = fmt.Sprintf("dispatcher %s %s", r.replica, why)
		}
	}
	for i := range replies {
		r := &replies[i]
		if r.err != nil {
			for _, to := range []*string{&f.unknown, &f.unclosed, &f.present, &f.elsewhere, &f.alone} {
				note(to, r, "does not answer")
			}
			for uid := range w.subscriptions {
				f.missing[uid] = f.unknown
			}
			for _, uid := range w.without {
				f.lingering[uid] = true
			}
			continue
		}
		if !r.answer.Knows(key, string(w.uid)) {
			note(&f.unknown, r, "does not know the channel yet")
		}
		if !r.answer.Closed(key, string(w.uid)) {
			note(&f.unclosed, r, "has events under way")
		}
		if !r.answer.Without(key, string(w.uid), "") {
			note(&f.present, r, "works with it still")
		}
		if w.place != nil {
			if why := r.answer.At(key, string(w.uid), *w.place); why != "" {
				note(&f.elsewhere, r, why)
			}
		}
		if w.uses != "" {
			if why := r.answer.Uses(w.uses); why != "" {
				note(&f.elsewhere, r, why)
			}
		}
		if w.shared && !r.answer.Shares(key, string(w.uid)) {
			note(&f.alone, r, "has yet to learn that there will be another subscription")
		}
		for uid, generation := range w.subscriptions {
			if why := r.answer.Has(key, string(w.uid), string(uid), generation); why != "" && f.missing[uid] == "" {
				f.missing[uid] = fmt.Sprintf("dispatcher %s %s", r.replica, why)
			}
		}
		for _, uid := range w.without {
			if !r.answer.Without(key, string(w.uid), string(uid)) {
				f.lingering[uid] = true
			}
		}
	}
	return f
}

// Roll asks the dispatchers for what channels wait for, and has the channels
// looked at again when the answer changes. It is a manager.Runnable.
type Roll struct {
	// Reader lists pods.
	Reader client.Reader
	// Namespace and Labels of the dispatchers' pods, and the port of their
	// admin server.
	Namespace string
	Labels    map[string]string
	Port      string
	Logger    *slog.Logger

	caller rollcall.Caller

	mu      sync.Mutex
	waiting map[types.NamespacedName]*waiting
	fresh   chan struct{} // one place
	changed chan event.TypedGenericEvent[*v1alpha1.SidestepChannel]
}

type waiting struct {
	want  want
	found *finding // nil: not asked yet
}

// NewRoll makes a Roll that nobody waits for.
func NewRoll(reader client.Reader, namespace string, labels map[string]string, port string, logger *slog.Logger) *Roll {
	return &Roll{
		Reader: reader, Namespace: namespace, Labels: labels, Port: port, Logger: logger,
		caller: rollcall.Caller{Client: &http.Client{
			Transport: &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, DisableCompression: true},
			Timeout:   askTimeout,
		}},
		waiting: make(map[types.NamespacedName]*waiting),
		fresh:   make(chan struct{}, 1),
		changed: make(chan event.TypedGenericEvent[*v1alpha1.SidestepChannel], 1024),
	}
}

// Await has w looked after until Done is called, and returns what is known by
// now, nil if nothing is.
func (r *Roll) Await(key types.NamespacedName, w want) *finding {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.waiting[key]
	if at != nil && reflect.DeepEqual(at.want, w) {
		return at.found
	}
	r.waiting[key] = &waiting{want: w}
	select {
	case r.fresh <- struct{}{}:
	default:
	}
	return nil
}

// Done ends what Await began.
func (r *Roll) Done(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, key)
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (r *Roll) NeedLeaderElection() bool { return true }

// Start asks until ctx ends.
func (r *Roll) Start(ctx context.Context) error {
	defer r.caller.Client.CloseIdleConnections()
	for pause := askFirst; ; {
		var tick <-chan time.Time
		if n := r.pending(); n > 0 {
			tick = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.fresh:
			pause = askFirst
			continue
		case <-tick:
		}
		if r.round(ctx) {
			pause = askFirst
		} else {
			pause = min(pause*3/2, askMost)
		}
	}
}

func (r *Roll) pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// round asks every dispatcher once, and tells whether anything new was heard.
func (r *Roll) round(ctx context.Context) (news bool) {
	r.mu.Lock()
	wants := make(map[types.NamespacedName]*waiting, len(r.waiting))
	maps.Copy(wants, r.waiting)
	r.mu.Unlock()
	replicas, err := r.replicas(ctx)
	if err != nil {
		r.Logger.Error("list dispatchers", "error", err)
		return false
	}
	keys := slices.Collect(maps.Keys(wants))
	for batch := range slices.Chunk(keys, rollcall.MaxChannels) {
		replies := r.ask(ctx, replicas, batch)
		for _, key := range batch {
			w := wants[key]
			f := w.want.look(key.String(), replies)
			if r.heard(ctx, key, w, &f) {
				news = true
			}
		}
	}
	return news
}

// heard keeps a finding, unless something else is awaited by now.
func (r *Roll) heard(ctx context.Context, key types.NamespacedName, w *waiting, f *finding) bool {
	r.mu.Lock()
	same := r.waiting[key] != w || w.found != nil && reflect.DeepEqual(w.found, f)
	if !same {
		w.found = f
	}
	r.mu.Unlock()
	if same {
		return false
	}
	c := new(v1alpha1.SidestepChannel)
	c.Namespace, c.Name = key.Namespace, key.Name
	select {
	case r.changed <- event.TypedGenericEvent[*v1alpha1.SidestepChannel]{Object: c}:
	case <-ctx.Done():
	}
	return true
}

func (r *Roll) ask(ctx context.Context, replicas []replica, keys []types.NamespacedName) []reply {
	call := &rollcall.Call{Channels: make([]string, len(keys))}
	for i, key := range keys {
		call.Channels[i] = key.String()
	}
	replies := make([]reply, len(replicas))
	var asking sync.WaitGroup
	for i, to := range replicas {
		asking.Go(func() {
			replies[i] = reply{replica: to.name}
			replies[i].answer, replies[i].err = r.caller.Call(ctx, to.address, call)
			if err := replies[i].err; err != nil {
				r.Logger.Debug("a dispatcher does not answer", "dispatcher", to.name, "error", err)
			}
		})
	}
	asking.Wait()
	return replies
}

// storing tells whether a dispatcher may write to a payload store. One that does not
// answer may.
func (r *Roll) storing(ctx context.Context, store string) (bool, error) {
	replicas, err := r.replicas(ctx)
	if err != nil {
		return true, fmt.Errorf("list dispatchers: %w", err)
	}
	return slices.ContainsFunc(r.ask(ctx, replicas, nil), func(a reply) bool {
		return a.err != nil || a.answer.Stores(store)
	}), nil
}

// none tells whether there is no dispatcher at all.
func (r *Roll) none(ctx context.Context) bool {
	replicas, err := r.replicas(ctx)
	return err == nil && len(replicas) == 0
}

type replica struct{ name, address string }

// replicas are the dispatchers that may work from a table: whose process runs.
// One that has not come up yet takes no events before it knows all there is; one
// that does not answer counts until it is gone.
func (r *Roll) replicas(ctx context.Context) ([]replica, error) {
	var pods corev1.PodList
	if err := r.Reader.List(ctx, &pods, client.InNamespace(r.Namespace), client.MatchingLabels(r.Labels)); err != nil {
		return nil, err
	}
	var out []replica
	for i := range pods.Items {
		if p := &pods.Items[i]; running(p) {
			out = append(out, replica{p.Name, net.JoinHostPort(p.Status.PodIP, r.Port)})
		}
	}
	slices.SortFunc(out, func(a, b replica) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return out, nil
}

func running(p *corev1.Pod) bool {
	if p.Status.PodIP == "" || p.Status.Phase != corev1.PodRunning {
		return false
	}
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil
	})
}
