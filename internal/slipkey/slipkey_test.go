package slipkey

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func wantMode(t *testing.T, name string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("%s has mode %v, want %v", name, got, want)
	}
}

func TestSlipKeyIsMadeOnceAndThePrivateHalfIsSecret(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "slip.pem")
	if _, err := File(file); err != nil {
		t.Fatal(err)
	}
	wantMode(t, file, 0o600)
	wantMode(t, file+".pub", 0o644)
	private, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(private), "-----BEGIN PRIVATE KEY-----\n") {
		t.Errorf("the key begins with %.40q", private)
	}
	if _, err := File(file); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(file); err != nil || string(again) != string(private) {
		t.Errorf("the key was made anew (%v)", err)
	}
}

func TestFileThatIsNoSlipKeyIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	const rsaKey = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	for name, content := range map[string]string{"empty": "", "no PEM": "hello", "another kind": rsaKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "slip.pem")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := File(file); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want an error that names the file", err)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != content {
				t.Errorf("the file holds %q, %v", got, err)
			}
		})
	}
}
