package e2etest

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ours are the labels of our pods.
const (
	dispatchers = "app.kubernetes.io/name=sidestep,app.kubernetes.io/component=dispatcher"
	controllers = "app.kubernetes.io/name=sidestep,app.kubernetes.io/component=controller"
	stores      = "app.kubernetes.io/name=sidestep,app.kubernetes.io/component=store"
)

// rate is that of the clients: 100 events a second.
var rate = []string{"--every", "10ms"}

func TestNothingAcceptedIsLostWhenPodsAreKilled(t *testing.T) {
	for _, mode := range []string{"Never", "Always"} {
		t.Run(mode, func(t *testing.T) {
			f := newFlow(t, mode, "a", "b", "c")
			f.post(rate...)
			f.flowing()
			victims := []struct{ ns, label string }{
				{system, dispatchers},
				{system, stores},
				{system, controllers},
				{f.ns, "app=a"},
				{f.ns, "app=b"},
				{f.ns, "app=c"},
			}
			// Each twice, in any order.
			order := append(rand.Perm(len(victims)), rand.Perm(len(victims))...)
			for _, i := range order {
				pods := f.pods(victims[i].ns, victims[i].label)
				if len(pods) == 0 {
					t.Logf("no pod runs of %s", victims[i].label)
					continue
				}
				p := pods[rand.IntN(len(pods))]
				t.Logf("kill %s", p.Name)
				f.kill(&p)
				f.flowing()
			}
			for id, a := range f.stop().Came {
				if a.Way != "abc" {
					t.Errorf("event %s went the way %q, want abc", id, a.Way)
				}
			}
		})
	}
}

// A drain of a node is an eviction of each of its pods.
func TestNothingAcceptedIsLostWhenPodsAreEvicted(t *testing.T) {
	f := newFlow(t, "Always", "a", "b")
	f.post(rate...)
	f.flowing()
	for _, label := range []string{dispatchers, controllers} {
		for _, p := range f.pods(system, label) {
			f.evict(&p)
			f.flowing()
		}
	}
	f.stop()
}

// evict evicts a pod when its budget allows, and waits until it is gone.
func (s *scene) evict(p *corev1.Pod) {
	s.t.Helper()
	s.await(p.Name+" to be evicted", func() error {
		err := s.kube.PolicyV1().Evictions(p.Namespace).Evict(s.ctx, &policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
		})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	s.await(p.Name+" to be gone", func() error {
		got, err := s.kube.CoreV1().Pods(p.Namespace).Get(s.ctx, p.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && got.UID != p.UID {
			return nil
		}
		if err == nil {
			err = errors.New("it ends still")
		}
		return err
	})
}

func TestNothingAcceptedIsLostInARollingRestart(t *testing.T) {
	f := newFlow(t, "Always", "a", "b")
	f.post(rate...)
	f.flowing()
	d := f.kube.AppsV1().Deployments(system)
	patch := []byte(`{"spec":{"template":{"metadata":{"annotations":{"restarted":"` + time.Now().Format(time.RFC3339Nano) + `"}}}}}`)
	if _, err := d.Patch(f.ctx, "sidestep-dispatcher", "application/strategic-merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	f.await("the rollout", func() error {
		got, err := d.Get(f.ctx, "sidestep-dispatcher", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if st := got.Status; st.ObservedGeneration < got.Generation || st.UpdatedReplicas != *got.Spec.Replicas ||
			st.Replicas != *got.Spec.Replicas || st.AvailableReplicas != *got.Spec.Replicas {
			return errors.New("it goes on")
		}
		return nil
	})
	f.flowing()
	f.stop()
}

// Steps are added, changed and removed while events flow.
func TestNothingAcceptedIsLostWhenASequenceIsEdited(t *testing.T) {
	f := newFlow(t, "Always", "a", "b")
	f.part("c", "answer", "--name", "c")
	f.post(rate...)
	f.flowing()
	for _, steps := range [][]string{{"a", "b", "c"}, {"a", "c", "b"}, {"a", "c"}, {"c"}, {"a", "b"}} {
		f.apply(sequence("Always", steps...))
		f.ready("flows.knative.dev/v1", "Sequence", "flow")
		f.flowing()
	}
	f.stop()
}

// What a flow's first life accepted is not the second's; both deliver.
func TestAFlowMayBeDeletedAndMadeAgain(t *testing.T) {
	f := newFlow(t, "Always", "a")
	for range 2 {
		f.post(rate...)
		f.flowing()
		f.stop()
		f.delete("apps/v1", "Deployment", "client")
		f.delete("flows.knative.dev/v1", "Sequence", "flow")
		f.gone(object("messaging.sidestep.dev/v1alpha1", "SidestepChannel", f.ns, "flow-kn-sequence-0"))
		f.apply(sequence("Always", "a"))
		f.ready("flows.knative.dev/v1", "Sequence", "flow")
	}
}
