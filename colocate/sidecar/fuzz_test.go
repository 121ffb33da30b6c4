package sidecar

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// FuzzDataref: whatever a step says, nothing outside the folder is read, moved or
// deleted, and nothing of another chain's.
func FuzzDataref(f *testing.F) {
	const inside, secret = "inside the folder", "outside of it"
	base := f.TempDir()
	dir, outside := filepath.Join(base, "claims"), filepath.Join(base, "secret")
	write := func(t testing.TB, name, data string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	for name, to := range map[string]string{"link": outside, "up": "..", "self": "."} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			f.Fatal(err)
		}
	}
	s, err := openSpool(&Config{Claims: dir, Inline: 1 << 10, ClaimBytes: 1 << 20, MaxEventBytes: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.close)
	for _, ref := range []string{"/mine", "/../secret", "/%2e%2e/secret", "/link", "/up/secret", "/self/mine", "/self/../../secret", "//mine", "/", "/sidestep-spool-1", "/sidestep-lock", "/mine\x00", "/a?b#c"} {
		f.Add(ref)
	}
	other := filepath.Join(dir, spoolPrefix+"1")
	f.Fuzz(func(t *testing.T, ref string) {
		write(t, outside, secret)
		write(t, other, secret)
		write(t, filepath.Join(dir, "mine"), inside)
		defer s.release("o")
		reply := &event.Event{SpecVersion: "1.0", ID: "1", Source: "/s", Type: "t", Attributes: []event.Attribute{{Name: dataref, Value: "file://" + dir + ref}}}
		got, err := s.resolve("o", reply, reply, "")
		if err == nil && got != reply && string(got.Data) != inside && got.Data != nil {
			t.Errorf("%q: %q was read", ref, got.Data)
		}
		for _, name := range []string{outside, other} {
			if b, err := os.ReadFile(name); err != nil || string(b) != secret {
				t.Errorf("%q: %s was touched: %q, %v", ref, name, b, err)
			}
		}
		if _, err := os.Lstat(filepath.Join(dir, "up")); err != nil {
			t.Errorf("%q: %v", ref, err)
		}
	})
}
