//go:build !gcs && !azure

package stores_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/claimcheck/stores"
)

func TestWhatIsNotBuiltInSaysHowToBuildIt(t *testing.T) {
	t.Parallel()
	for rawURL, tag := range map[string]string{"gs://bucket": "-tags gcs", "azblob://container": "-tags azure"} {
		if err := stores.Check(rawURL); !errors.Is(err, stores.ErrURL) || !strings.Contains(err.Error(), tag) {
			t.Errorf("check %q: got %v, want ErrURL with %q", rawURL, err, tag)
		}
	}
}
