package secrets

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func secret(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

func content(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestASecretIsFilesAndSoIsItsRotation(t *testing.T) {
	ctx, broken := context.Background(), false
	c := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(
		secret("s", map[string]string{"user": "u", "password": "one"}), secret("t", map[string]string{"password": "other"}),
	).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if broken {
				return errors.New("the API server is away")
			}
			return w.Get(ctx, key, o, opts...)
		},
	}).Build()
	m := &Mirror{Reader: c, Namespace: "n", Dir: filepath.Join(t.TempDir(), "made"), Logger: slog.New(slog.DiscardHandler)}
	files, err := m.Keep(ctx, "kafka", "s")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 || content(t, files["user"]) != "u" || content(t, files["password"]) != "one" {
		t.Fatalf("files are %v", files)
	}
	if info, err := os.Stat(files["password"]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := c.Update(ctx, secret("s", map[string]string{"password": "two"})); err != nil {
		t.Fatal(err)
	}
	m.Refresh(ctx)
	if content(t, files["password"]) != "two" || content(t, files["user"]) != "" {
		t.Errorf("after the rotation: %q, %q", content(t, files["password"]), content(t, files["user"]))
	}
	broken = true
	m.Refresh(ctx)
	if content(t, files["password"]) != "two" {
		t.Error("what was known is gone with the API server")
	}
	broken = false
	if err := c.Delete(ctx, secret("s", nil)); err != nil {
		t.Fatal(err)
	}
	m.Refresh(ctx)
	if content(t, files["password"]) != "two" {
		t.Error("a Secret that was deleted took its files with it")
	}
	// Another Secret in its place: the same file.
	if _, err := m.Keep(ctx, "kafka", "t"); err != nil {
		t.Fatal(err)
	}
	if content(t, files["password"]) != "other" {
		t.Errorf("of another Secret: %q", content(t, files["password"]))
	}
	if left, err := os.ReadDir(filepath.Join(m.Dir, "kafka")); err != nil || len(left) != 1 {
		t.Errorf("the folder has %v, %v", left, err)
	}
}

func TestASecretThatMayNotBeReadSaysWhereToAllowIt(t *testing.T) {
	c := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, key.Name, errors.New("no"))
		},
	}).Build()
	m := &Mirror{Reader: c, Namespace: "n", Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	if _, err := m.Keep(context.Background(), "w", "s"); err == nil || !strings.Contains(err.Error(), "resourceNames of the Role "+Role) {
		t.Errorf("got %v", err)
	}
}
