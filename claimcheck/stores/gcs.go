//go:build gcs

package stores

import (
	"context"
	"net/url"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
)

func gcs() map[string]scheme {
	return map[string]scheme{"gs": {
		check: checkBucket,
		open: func(ctx context.Context, u *url.URL, _ Options) (claimcheck.Store, error) {
			return blobstore.GCS(ctx, u.Host)
		},
	}}
}
