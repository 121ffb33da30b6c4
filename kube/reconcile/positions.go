package reconcile

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
	"github.com/sidestep-dev/sidestep/kube/watch"
)

// grace is how long the position of a subscription is kept that has left
// spec.subscribers. It may come back: Knative's subscription controller patches
// the whole list, from a cache (eventing#6636).
const grace = time.Minute

// positions brings the list of a channel's positions to what spec.subscribers
// wants, and tells whether anything in it changed. It makes and deletes no group.
func positions(c *v1alpha1.SidestepChannel, now time.Time) (next []v1alpha1.Position, changed bool) {
	next = slices.Clone(c.Status.Positions)
	wanted := make(map[types.UID]bool, len(c.Spec.Subscribers))
	for i := range c.Spec.Subscribers {
		s := &c.Spec.Subscribers[i]
		if s.UID == "" || wanted[s.UID] {
			continue
		}
		wanted[s.UID] = true
		at := slices.IndexFunc(next, func(p v1alpha1.Position) bool { return p.Subscriber.UID == s.UID })
		switch {
		case at >= 0 && next[at].State == v1alpha1.Leaving:
			// Its group may be gone already: that is finished first.
			continue
		case at < 0 && watch.CheckSubscriber(c, s) != nil:
			continue
		case at < 0:
			next = append(next, v1alpha1.Position{Subscriber: *s.DeepCopy(), State: v1alpha1.Pending})
			changed = true
			continue
		}
		p := &next[at]
		if p.State == v1alpha1.Draining || p.State == v1alpha1.Held {
			p.State, p.Since = v1alpha1.Active, nil
			changed = true
		}
		if p.Subscriber.Generation != s.Generation {
			p.Subscriber = *s.DeepCopy()
			changed = true
		}
	}
	for i := range next {
		p := &next[i]
		if wanted[p.Subscriber.UID] {
			continue
		}
		switch p.State {
		case v1alpha1.Pending:
			p.State = v1alpha1.Leaving // it may have been made, and nothing was promised
			changed = true
		case v1alpha1.Active:
			since := metav1.NewTime(now)
			p.State, p.Since = v1alpha1.Draining, &since
			changed = true
		case v1alpha1.Draining, v1alpha1.Held, v1alpha1.Leaving:
		}
	}
	return next, changed
}

// age moves positions that their subscriptions have left on with time. left are
// the records that each has yet to settle, by UID, -1 where that is not known.
func age(ps []v1alpha1.Position, left map[types.UID]int64, now time.Time, drain time.Duration) (changed bool) {
	for i := range ps {
		p := &ps[i]
		if p.Since == nil {
			continue
		}
		gone := now.Sub(p.Since.Time)
		n, known := left[p.Subscriber.UID]
		switch {
		case p.State == v1alpha1.Draining && (known && n == 0 || gone >= drain):
			p.State = v1alpha1.Held
			changed = true
		case p.State == v1alpha1.Held && gone >= grace:
			p.State = v1alpha1.Leaving
			changed = true
		}
	}
	return changed
}

// nextLook is when a channel has to be looked at again for what age does.
func nextLook(ps []v1alpha1.Position, now time.Time) time.Duration {
	next := time.Duration(0)
	sooner := func(d time.Duration) {
		if d = max(d, drainPoll); next == 0 || d < next {
			next = d
		}
	}
	for i := range ps {
		switch p := &ps[i]; p.State {
		case v1alpha1.Draining:
			sooner(drainPoll)
		case v1alpha1.Held:
			sooner(p.Since.Add(grace).Sub(now))
		case v1alpha1.Leaving:
			sooner(drainPoll)
		case v1alpha1.Pending, v1alpha1.Active:
		}
	}
	return next
}
