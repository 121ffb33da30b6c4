package reconcile

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What the processes of one installation share. They are made once, here, since
// what is the same for everybody who installs a file is no secret.
const (
	// StoreSecret has what clients of the store show, under PasswordKey.
	StoreSecret = "sidestep-store"
	PasswordKey = "password"
	// SigningSecret has the key that signs internal headers, under SigningKey.
	SigningSecret = "sidestep-signing"
	SigningKey    = "key"
)

// ReadKey is the key that signs internal headers.
func ReadKey(ctx context.Context, c client.Client, namespace string) ([]byte, error) {
	secret := new(corev1.Secret)
	if err := c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: SigningSecret}, secret); err != nil {
		return nil, fmt.Errorf("look at Secret %s: %w", SigningSecret, err)
	}
	key, err := base64.RawURLEncoding.DecodeString(string(secret.Data[SigningKey]))
	if err != nil {
		return nil, fmt.Errorf("key %s of Secret %s: want base64url without padding", SigningKey, SigningSecret)
	}
	return key, nil
}

// FillSecrets puts content into those of the shared secrets that are empty, as they
// are when they have just been installed.
func FillSecrets(ctx context.Context, c client.Client, namespace string) error {
	for _, s := range []struct{ name, key string }{{StoreSecret, PasswordKey}, {SigningSecret, SigningKey}} {
		secret := new(corev1.Secret)
		if err := c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: s.name}, secret); err != nil {
			return fmt.Errorf("look at Secret %s: %w", s.name, err)
		}
		if len(secret.Data[s.key]) > 0 {
			continue
		}
		b := make([]byte, 32)
		rand.Read(b)
		if secret.Data == nil {
			secret.Data = make(map[string][]byte)
		}
		secret.Data[s.key] = []byte(base64.RawURLEncoding.EncodeToString(b))
		// Somebody else who does the same was faster, if there is a conflict.
		if err := c.Update(ctx, secret); err != nil && !apierrors.IsConflict(err) {
			return fmt.Errorf("fill Secret %s: %w", s.name, err)
		}
	}
	return nil
}
