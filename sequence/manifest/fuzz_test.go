package manifest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// FuzzParse: any bytes are either a Set that makes a table, or Problems that
// say where.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/problems/*.txt", "testdata/tables/*.txt", "../../config/samples/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			text := string(data)
			if _, after, ok := strings.Cut(text, " --\n"); ok {
				text, _, _ = strings.Cut(after, "\n-- ")
			}
			f.Add([]byte(text))
		}
	}
	f.Add([]byte("&a [*a]"))
	f.Add([]byte("a: &a {b: *a}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := manifest.Parse("f.yaml", data)
		if err != nil {
			var problems manifest.Problems
			if !errors.As(err, &problems) || len(problems) == 0 || err.Error() == "" {
				t.Fatalf("got %T: %v", err, err)
			}
			return
		}
		table, _, err := set.Table(manifest.TableOptions{UID: uid})
		if err != nil {
			t.Fatalf("a valid set makes no table: %v", err)
		}
		for _, c := range table.Channels {
			for _, s := range c.Subscriptions {
				if s.Subscriber == nil && s.Reply == nil {
					t.Errorf("subscription %s leads nowhere", s.Name)
				}
				if s.Subscriber != nil && s.Subscriber.URL == "" {
					t.Errorf("subscription %s has an empty URL", s.Name)
				}
			}
		}
	})
}
