package reconcile

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
)

func TestWhatIsNoFailureIsNotToldAsOne(t *testing.T) {
	services, broken := schema.GroupResource{Resource: "services"}, errors.New("broken")
	terminating := apierrors.NewForbidden(services, "c", errors.New("it is being terminated"))
	terminating.ErrStatus.Details.Causes = append(terminating.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
	forbidden := apierrors.NewForbidden(services, "c", errors.New("no such right"))
	for name, c := range map[string]struct {
		err   error
		again bool
		told  error
	}{
		"all is well":                    {nil, true, nil},
		"another has changed the object": {fmt.Errorf("patch: %w", apierrors.NewConflict(services, "c", broken)), true, nil},
		"the cache is behind":            {fmt.Errorf("make: %w", errBehind), true, nil},
		"the namespace is being deleted": {errors.Join(fmt.Errorf("make: %w", terminating), nil), true, nil},
		"a right is missing":             {forbidden, false, forbidden},
		"something is broken":            {broken, false, broken},
	} {
		got, err := outcome(t.Context(), time.Minute, c.err)
		if !errors.Is(err, c.told) || (err == nil) != (c.told == nil) {
			t.Errorf("%s: %v is told, want %v", name, err, c.told)
		}
		// One of both: an error has its own times of repetition.
		if again := got != (ctrl.Result{}); again != c.again {
			t.Errorf("%s: repeated %v, want %t", name, got, c.again)
		}
	}
}
