package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/sidestep-dev/sidestep/kube/api/v1alpha1"
)

// Uninstalling is on what a controller needs to live: its Deployment, its account
// and its roles. All are deleted at once with the CRD, and channels with a
// finalizer would then be there for ever.
const Uninstalling = "messaging.sidestep.dev/uninstall"

const (
	uninstallPoll    = 2 * time.Second
	uninstallTimeout = 20 * time.Second
)

// Uninstall watches over the controller's own end. It is a manager.Runnable.
//
//	kubectl delete -f --> CRD: channels are being deleted ---+
//	                  '-> Deployment, account, roles: kept   v
//	                        by their finalizers    channels released, no draining
//	                                                         |
//	                        finalizers removed <-------------+
type Uninstall struct {
	// Client reads from the API server.
	Client client.Client
	// Namespace of the installation.
	Namespace string
	Logger    *slog.Logger
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (u *Uninstall) NeedLeaderElection() bool { return true }

// own is what has the finalizer, in the order in which it is let go: what nothing
// depends on, the Deployment, which has this process run, and what allows it to let go.
func (u *Uninstall) own() (leaves []*unstructured.Unstructured, deployment *unstructured.Unstructured, rights []*unstructured.Unstructured) {
	rbac := schema.GroupVersion{Group: "rbac.authorization.k8s.io", Version: "v1"}
	object := func(gvk schema.GroupVersionKind, namespace string) *unstructured.Unstructured {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(gvk)
		o.SetNamespace(namespace)
		o.SetName("sidestep-controller")
		return o
	}
	leaves = []*unstructured.Unstructured{
		object(rbac.WithKind("Role"), u.Namespace),
		object(rbac.WithKind("RoleBinding"), u.Namespace),
	}
	deployment = object(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, u.Namespace)
	rights = []*unstructured.Unstructured{
		object(schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}, u.Namespace),
		object(rbac.WithKind("ClusterRole"), ""),
		object(rbac.WithKind("ClusterRoleBinding"), ""),
	}
	return leaves, deployment, rights
}

// Start looks until ctx ends, or there is nothing left to look after.
func (u *Uninstall) Start(ctx context.Context) error {
	tick := time.NewTicker(uninstallPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := u.look(ctx); err != nil && ctx.Err() == nil {
			u.Logger.Warn("uninstalling; trying again", "error", err)
		}
	}
}

func (u *Uninstall) look(ctx context.Context) error {
	_, deployment, _ := u.own()
	err := u.Client.Get(ctx, client.ObjectKeyFromObject(deployment), deployment)
	if apierrors.IsNotFound(err) || err == nil && deployment.GetDeletionTimestamp().IsZero() {
		return nil // it runs elsewhere, or it is to stay
	}
	if err != nil {
		return err
	}
	left, err := u.release(ctx)
	if err != nil {
		return err
	}
	if left > 0 {
		return nil
	}
	return u.letGo(ctx)
}

// release lets channels go that are deleted because their kind is. How many are
// left, it tells too.
func (u *Uninstall) release(ctx context.Context) (left int, err error) {
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	err = u.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.Resource + "." + v1alpha1.Group}, crd)
	if apierrors.IsNotFound(err) || err == nil && crd.GetDeletionTimestamp().IsZero() {
		return 0, nil // there are none, or they are to stay: somebody replaces the controller
	}
	if err != nil {
		return 0, err
	}
	var all v1alpha1.SidestepChannelList
	if err := u.Client.List(ctx, &all); err != nil {
		return 0, client.IgnoreNotFound(err)
	}
	for i := range all.Items {
		c := &all.Items[i]
		was := c.DeepCopy()
		if !controllerutil.RemoveFinalizer(c, Finalizer) {
			continue
		}
		left++
		if err := u.Client.Patch(ctx, c, client.MergeFrom(was)); client.IgnoreNotFound(err) != nil {
			return left, fmt.Errorf("release channel %s/%s: %w", c.Namespace, c.Name, err)
		}
	}
	if left > 0 {
		u.Logger.Info("everything is being uninstalled: channels are let go without draining", "channels", left)
	}
	return left, nil
}

// letGo takes our finalizer off what is being deleted, one after the other, as long as
// one that fails can be tried again: the Deployment tells that it is to be. It goes on although
// the process is told to stop, as it is when its Deployment is gone.
//
// What is left then allows the rest to be let go, each of it. So that is done at the same
// time: a request is authorized before another one has had its effect.
func (u *Uninstall) letGo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), uninstallTimeout)
	defer cancel()
	leaves, deployment, rights := u.own()
	var last []func() error
	for _, o := range rights {
		free, err := u.freeing(ctx, o)
		if err != nil {
			return err
		}
		last = append(last, free)
	}
	for _, o := range append(leaves, deployment) {
		free, err := u.freeing(ctx, o)
		if err == nil {
			err = free()
		}
		if err != nil {
			return err
		}
	}
	var g errgroup.Group
	start := make(chan struct{})
	for _, free := range last {
		g.Go(func() error {
			<-start
			return free()
		})
	}
	close(start)
	return g.Wait()
}

// freeing is what takes our finalizer off an object, if it is being deleted.
func (u *Uninstall) freeing(ctx context.Context, o *unstructured.Unstructured) (free func() error, err error) {
	nothing := func() error { return nil }
	err = u.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
	if apierrors.IsNotFound(err) || err == nil && o.GetDeletionTimestamp().IsZero() {
		return nothing, nil
	}
	if err != nil {
		return nil, err
	}
	was := o.DeepCopy()
	if !controllerutil.RemoveFinalizer(o, Uninstalling) {
		return nothing, nil
	}
	return func() error {
		if err := u.Client.Patch(ctx, o, client.MergeFrom(was)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("let %s %s go: %w", o.GetKind(), o.GetName(), err)
		}
		return nil
	}, nil
}
