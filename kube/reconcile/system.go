package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/claimcheck"
	brokers "github.com/sidestep-dev/sidestep/internal/broker"
	"github.com/sidestep-dev/sidestep/internal/claims"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/broker"
	"github.com/sidestep-dev/sidestep/kube/watch"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

const (
	// configPoll is how often config-sidestep is looked at, in memory.
	configPoll = 200 * time.Millisecond
	// openAgain is the pause before what could not be opened is tried again.
	openAgain = 5 * time.Second
	// reportAgain is when a problem that is still there is reported as it is then.
	reportAgain = time.Minute
	// unusedFor is how long a backend was not needed by any channel before it is let go:
	// longer than a cache may be behind.
	unusedFor = time.Minute
)

var errStarting = errors.New("config-sidestep has yet to be looked at")

// Servers opens what config-sidestep names; *broker.Servers is one.
type Servers interface {
	Open(ctx context.Context, s brokers.Spec, logger *slog.Logger) (backend.Backend, error)
	Renew(ctx context.Context, s brokers.Spec) error
	Dial() (*nats.Conn, error)
	ClaimStore(c *manifest.ClaimCheck) string
	CompleteClaimStore(ctx context.Context, url, secret string) (string, error)
}

// System puts config-sidestep into effect: it opens the backends and the payload store
// that are named there, and only then writes into sidestep-state what everybody goes by.
// It sweeps payloads, too. It is a manager.Runnable; its other methods may be called from
// any goroutine.
//
//	config-sidestep --> open: backends, payload store --> sidestep-state --> dispatchers
//	                      |                                   |
//	                      '-- fails: problem, tried again     '--> channels: where logs belong
type System struct {
	// Reader reads from a cache, Client from and to the API server.
	Reader    client.Reader
	Client    client.Client
	Namespace string
	Servers   Servers
	// Keys of claims.
	Keys *claimcheck.Keys
	Roll *Roll
	// Events are told of what cannot be used.
	Events events.EventRecorder
	Logger *slog.Logger

	pool    *brokers.Pool
	stores  *claims.Stores // nil until they were opened
	changed chan event.TypedGenericEvent[*corev1.ConfigMap]

	// Now is the time; nil: time.Now.
	Now func() time.Time

	// What follows is Start's alone.
	looked   string    // the config-sidestep that was put into effect, or refused for good
	resumed  time.Time // when what is in effect was last opened
	unused   map[string]time.Time
	reported struct {
		of string // version of config-sidestep
		at time.Time
	}
	sweeping sync.WaitGroup

	writing sync.Mutex // held while the state is changed

	mu      sync.Mutex // guards what follows
	started bool       // it is known what is in effect, and that was opened as far as possible
	state   *broker.State
	problem error
}

// Prepare makes s ready for use, once its fields are set.
func (s *System) Prepare() {
	swap := swapbackend.New(swapbackend.Config{Home: s.homeOf, Logger: s.Logger})
	s.pool = brokers.NewPool(swap, s.Servers.Open, s.Logger)
	s.changed = make(chan event.TypedGenericEvent[*corev1.ConfigMap], 1)
	s.state, s.unused = new(broker.State), make(map[string]time.Time)
}

// Changed is where a change is told of that concerns all channels.
func (s *System) Changed() <-chan event.TypedGenericEvent[*corev1.ConfigMap] { return s.changed }

func (s *System) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *System) homeOf(log string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Homes.OfLog(log)
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *System) NeedLeaderElection() bool { return true }

// Start looks at config-sidestep until ctx ends.
func (s *System) Start(ctx context.Context) error {
	defer s.sweeping.Wait()
	for pause := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = configPoll
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			s.report(ctx, err)
			pause = openAgain
		}
		s.begin()
	}
}

// begin lets channels be reconciled: not before it is known what is in effect. They would
// be said to lack a backend each time that another controller takes over.
func (s *System) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
}

// Close closes the backends and the payload stores, after Start has returned.
func (s *System) Close(ctx context.Context) error {
	var err error
	if s.stores != nil {
		err = s.stores.Close()
	}
	return errors.Join(err, s.pool.Swap.Close(ctx))
}

// look puts the present config-sidestep into effect unless it is.
func (s *System) look(ctx context.Context) error {
	if err := s.resume(ctx); err != nil {
		return err
	}
	config, err := s.configMap(ctx, watch.ConfigName)
	if err != nil {
		return err
	}
	if version(config) != s.looked {
		c, err := watch.Config(config)
		if err != nil {
			s.looked = version(config) // it will be no better
			s.report(ctx, err)
			return nil
		}
		s.mu.Lock()
		was := s.state
		s.mu.Unlock()
		if err := s.accept(ctx, &c); err != nil {
			return err
		}
		s.tellRestart(was, &c, config)
		s.looked = version(config)
		s.resolved()
	}
	return s.prune(ctx)
}

func version(cm *corev1.ConfigMap) string {
	if cm == nil {
		return "none"
	}
	return string(cm.UID) + "/" + cm.ResourceVersion
}

// resume goes on from what is in effect, once, and opens what is not open of it.
func (s *System) resume(ctx context.Context) error {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	if state.Empty() {
		cm, err := s.stateMap(ctx)
		if err != nil {
			return err
		}
		if state, err = broker.ReadState(cm); err != nil {
			return err
		}
		s.mu.Lock()
		s.state = state
		s.mu.Unlock()
	}
	if s.now().Sub(s.resumed) < openAgain {
		return nil
	}
	s.resumed = s.now()
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(state.Backends)) {
		// One by one: those that can be reached are used.
		errs = append(errs, s.pool.Add(ctx, state.Backends[id], state.Config.ClaimCheck.Threshold))
	}
	if s.stores == nil && len(state.ClaimStores) > 0 {
		errs = append(errs, s.openStores(ctx, state.ClaimStores[0], &state.Config.ClaimCheck))
	}
	// A backend that logs are still on is no reason to refuse another one.
	if err := errors.Join(errs...); err != nil {
		s.Logger.Error("what is in effect cannot be opened; trying again", "error", err)
	}
	if !state.Empty() {
		s.begin()
	}
	return nil
}

// accept opens what a configuration names, and then has it be in effect.
func (s *System) accept(ctx context.Context, c *manifest.Config) error {
	specs := brokers.Specs(c)
	for _, id := range slices.Sorted(maps.Keys(specs)) {
		if err := s.pool.Add(ctx, specs[id], c.ClaimCheck.Threshold); err != nil {
			return fmt.Errorf("all channels stay on the backends that they are on, until this one can be used: %w", err)
		}
		if err := s.Servers.Renew(ctx, specs[id]); err != nil {
			return fmt.Errorf("backend %s: %w", id, err)
		}
	}
	if err := s.pool.Fits(c.ClaimCheck.Threshold); err != nil {
		return err
	}
	url := s.Servers.ClaimStore(&c.ClaimCheck)
	if err := s.useStore(ctx, url, &c.ClaimCheck); err != nil {
		return fmt.Errorf("claim-check: payloads go on to the store that they went to before: %w", err)
	}
	return s.update(ctx, func(state *broker.State) {
		state.Config, state.Homes = *c, brokers.HomesOf(c)
		if state.Backends == nil {
			state.Backends = make(map[string]brokers.Spec)
		}
		maps.Copy(state.Backends, specs)
	})
}

// stateMap is the object that the state is in.
func (s *System) stateMap(ctx context.Context) (*corev1.ConfigMap, error) {
	cm := new(corev1.ConfigMap)
	if err := s.Client.Get(ctx, types.NamespacedName{Namespace: s.Namespace, Name: broker.StateName}, cm); err != nil {
		return nil, fmt.Errorf("read ConfigMap %s, which is installed empty: %w", broker.StateName, err)
	}
	return cm, nil
}

// update writes a changed state down, and then goes by it.
func (s *System) update(ctx context.Context, change func(*broker.State)) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	next := s.state.Clone()
	s.mu.Unlock()
	change(next)
	cm, err := s.stateMap(ctx)
	if err != nil {
		return err
	}
	changed, err := next.Write(cm)
	if err != nil {
		return err
	}
	if changed {
		if err := s.Client.Update(ctx, cm); err != nil {
			return fmt.Errorf("write ConfigMap %s: %w", broker.StateName, err)
		}
	}
	s.mu.Lock()
	s.state = next
	s.mu.Unlock()
	if changed {
		s.poke() // whoever heard of the object sooner has read the state before
	}
	return nil
}

// report says what cannot be used: in an event on config-sidestep and, through
// Settings, in the channels' conditions. What is tried again says much the same each
// time, and is reported seldom.
func (s *System) report(ctx context.Context, err error) {
	cm, _ := s.configMap(ctx, watch.ConfigName)
	s.mu.Lock()
	known := s.problem != nil && s.reported.of == version(cm) && s.now().Sub(s.reported.at) < reportAgain
	if !known {
		s.problem = err
		s.reported.of, s.reported.at = version(cm), s.now()
	}
	s.mu.Unlock()
	if known {
		s.Logger.Debug("config-sidestep can still not be put into effect", "error", err)
		return
	}
	s.Logger.Error("config-sidestep cannot be put into effect; going on with the last one that could", "error", err)
	if cm != nil {
		s.Events.Eventf(cm, nil, warning, "ConfigRefused", "Configure",
			"It cannot be put into effect, the last one that could be is: %v", err)
	}
	s.poke()
}

// tellRestart says what of a configuration that is in effect now dispatchers will know of
// when they are started the next time, and no sooner.
func (s *System) tellRestart(was *broker.State, is *manifest.Config, cm *corev1.ConfigMap) {
	if was.Empty() || cm == nil {
		return
	}
	if keys := is.NeedRestart(&was.Config); len(keys) > 0 {
		what := strings.Join(keys, ", ")
		s.Logger.Warn("dispatchers apply what was changed when they are restarted", "changed", what)
		s.Events.Eventf(cm, nil, warning, "RestartNeeded", "Configure",
			"Dispatchers apply a changed %s when they are restarted: kubectl -n %s rollout restart deployment/sidestep-dispatcher", what, s.Namespace)
	}
}

// resolved ends a report.
func (s *System) resolved() {
	s.mu.Lock()
	was := s.problem
	s.problem = nil
	s.mu.Unlock()
	s.Logger.Info("config-sidestep is in effect")
	if was != nil {
		s.poke()
	}
}

// poke has all channels looked at.
func (s *System) poke() {
	select {
	case s.changed <- event.TypedGenericEvent[*corev1.ConfigMap]{Object: new(corev1.ConfigMap)}:
	default:
	}
}

// prune lets go of backends that no log is on, and none belongs on.
func (s *System) prune(ctx context.Context) error {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	if len(state.Backends) <= len(state.Homes.IDs()) {
		clear(s.unused)
		return nil
	}
	var all v1alpha1.SidestepChannelList
	if err := s.Reader.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list channels: %w", err)
	}
	used := make(map[string]bool)
	for _, id := range state.Homes.IDs() {
		used[id] = true
	}
	for i := range all.Items {
		if p := all.Items[i].Status.Place; p != nil {
			for _, id := range placeOf(p, false).All() {
				used[id] = true
			}
		}
	}
	now := s.now()
	for id := range state.Backends {
		if since, known := s.unused[id]; used[id] {
			delete(s.unused, id)
		} else if !known {
			s.unused[id] = now
		} else if now.Sub(since) >= unusedFor {
			continue
		}
		used[id] = true
	}
	s.pool.Keep(ctx, func(id string) bool { return used[id] })
	gone := func(id string) bool { return !used[id] && s.pool.Swap.Member(id) == nil }
	if !slices.ContainsFunc(slices.Collect(maps.Keys(state.Backends)), gone) {
		return nil
	}
	return s.update(ctx, func(state *broker.State) {
		maps.DeleteFunc(state.Backends, func(id string, _ brokers.Spec) bool { return gone(id) })
	})
}
