package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sidestep-dev/sidestep/channel/backend"
	"github.com/sidestep-dev/sidestep/channel/backend/swapbackend"
	"github.com/sidestep-dev/sidestep/internal/rollcall"
	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

const (
	// movePoll is how often a log is looked at whose former place has yet to drain.
	movePoll = 250 * time.Millisecond
	// nextStep is the pause before a step that nothing stands in the way of.
	nextStep = time.Millisecond
)

func isNotFound(err error) bool { return errors.Is(err, backend.ErrNotFound) }

// placeOf is a place as backends know it.
func placeOf(p *v1alpha1.Place, ordered bool) swapbackend.Place {
	return swapbackend.Place{Home: p.Home, Next: p.Next, Former: p.Former, Ordered: ordered}
}

// locate has the backend know where the channel's log is: what the status says, or where
// logs of its namespace are made.
func (w *work) locate(ctx context.Context) (err error) {
	if w.admin, err = w.Backend(ctx); err != nil {
		return err
	}
	if err := w.admin.Set(w.log(), w.place()); err != nil {
		return fmt.Errorf("%w: %w", backend.ErrUnavailable, err)
	}
	return nil
}

func (w *work) place() swapbackend.Place {
	if p := w.c.Status.Place; p != nil {
		return placeOf(p, w.description().Ordered)
	}
	return swapbackend.Place{Home: w.belongs(), Ordered: w.description().Ordered}
}

// belongs is the backend that the log is to be on.
func (w *work) belongs() string { return w.settings.State.Homes.Of(w.c.Namespace) }

// setPlace notes where the log is from now on.
func (w *work) setPlace(p swapbackend.Place) {
	w.c.Status.Place = &v1alpha1.Place{Home: p.Home, Next: p.Next, Former: slices.Clone(p.Former)}
	w.c.Status.Backend = w.settings.State.KindOf(p.Home)
}

// moves tells whether the log is on its way, or to be.
func (w *work) moves() bool {
	p := w.c.Status.Place
	return p != nil && w.belongs() != "" && (p.Home != w.belongs() || placeOf(p, false).Moving())
}

// move takes the log one step nearer to the backend that it belongs on: see
// swapbackend. Each place is in the status before it is used, and before the next step
// every dispatcher is there.
func (w *work) move(ctx context.Context) error {
	manage := w.c.Conditions()
	if !w.moves() {
		_ = manage.ClearCondition(v1alpha1.ConditionMoved)
		return nil
	}
	to, at := w.belongs(), w.place()
	waiting := func(format string, args ...any) {
		manage.MarkFalse(v1alpha1.ConditionMoved, "Moving", "from backend %s to %s: "+format,
			append([]any{at.All()[0], to}, args...)...)
	}
	f := w.Roll.Await(w.key(), w.want())
	switch {
	case f == nil:
		waiting("dispatchers are being asked where they are")
		return nil
	case f.elsewhere != "":
		waiting("%s", f.elsewhere)
		return nil
	}
	if err := w.confirm(ctx); err != nil {
		return err
	}
	next, err := w.admin.Step(ctx, w.description(), w.groups(), to)
	if err != nil {
		manage.MarkFalse(v1alpha1.ConditionMoved, "MoveFailed", "from backend %s to %s: %v", at.All()[0], to, err)
		return err
	}
	if next.Equal(at) {
		waiting("what is stored there is being delivered")
		w.soon(movePoll)
		return nil
	}
	w.setPlace(next)
	if err := w.save(ctx); err != nil {
		return err
	}
	if err := w.admin.Set(w.log(), next); err != nil {
		return err
	}
	if !next.Moving() && next.Home == to {
		w.event(normal, "Moved", "The log has moved to backend %s", to)
		_ = manage.ClearCondition(v1alpha1.ConditionMoved)
		return nil
	}
	waiting("going on")
	w.soon(nextStep)
	return nil
}

// confirm fails if the cache is behind: a step that was taken before would make again
// what it has removed.
func (w *work) confirm(ctx context.Context) error {
	now := new(v1alpha1.SidestepChannel)
	if err := w.Direct.Get(ctx, w.key(), now); err != nil {
		return client.IgnoreNotFound(err)
	}
	if now.ResourceVersion != w.stored.ResourceVersion {
		return errBehind
	}
	return nil
}

// errBehind: what was read is not what is.
var errBehind = errors.New("the channel has changed meanwhile")

// groups are all that the log may have.
func (w *work) groups() []string {
	names := make([]string, len(w.c.Status.Positions))
	for i := range w.c.Status.Positions {
		names[i] = string(w.c.Status.Positions[i].Subscriber.UID)
	}
	return names
}

// wantPlace adds to a want what a move waits for.
func (w *work) wantPlace(to *want) {
	if !w.moves() {
		return
	}
	p := w.c.Status.Place
	to.place = &rollcall.Place{Home: p.Home, Next: p.Next, Former: p.Former}
	if !placeOf(p, false).Moving() {
		to.uses = w.belongs()
	}
}

// Early deletion of payloads. A group may be made only when no dispatcher believes any
// more that there is but one:
//
//	"" --one subscription, ready--> Allowed --another is to be made--> Ending --all know--> ""

// alone tells whether a log has one group, and is to have no other.
func alone(ps []v1alpha1.Position) bool { return len(ps) == 1 && ps[0].State == v1alpha1.Active }

// endEarlyDeletion takes it back, if that is needed, and tells whether anything changed.
func (w *work) endEarlyDeletion() (changed bool) {
	if w.c.Status.EarlyDeletion != v1alpha1.EarlyAllowed || alone(w.c.Status.Positions) {
		return false
	}
	w.c.Status.EarlyDeletion = v1alpha1.EarlyEnding
	return true
}

// mayMakeGroups tells whether every dispatcher knows that there may be more groups.
func (w *work) mayMakeGroups() bool {
	if w.c.Status.EarlyDeletion != v1alpha1.EarlyEnding {
		return true
	}
	f := w.Roll.Await(w.key(), w.want())
	if f == nil || f.alone != "" {
		return false // the Roll has it looked at again
	}
	w.c.Status.EarlyDeletion = ""
	return true
}
