//go:build azure

package stores

import (
	"context"
	"net/url"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
)

func azure() map[string]scheme {
	return map[string]scheme{"azblob": {
		check: checkBucket,
		open: func(ctx context.Context, u *url.URL, _ Options) (claimcheck.Store, error) {
			return blobstore.Azure(ctx, u.Host)
		},
	}}
}
