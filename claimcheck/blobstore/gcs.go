//go:build gcs

package blobstore

import (
	"context"
	"fmt"

	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// gcsPart is what the client library takes of an object before it sends it.
const gcsPart = 16 << 20

// GCS opens a bucket of Google Cloud Storage with the credentials of the
// environment. Uploads that nobody ended vanish by themselves after a week.
func GCS(ctx context.Context, bucket string) (claimcheck.Store, error) {
	credentials, err := gcp.DefaultCredentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("GCS payload store %q: %w", bucket, err)
	}
	client, err := gcp.NewHTTPClient(gcp.DefaultTransport(), gcp.CredentialsTokenSource(credentials))
	if err != nil {
		return nil, fmt.Errorf("GCS payload store %q: %w", bucket, err)
	}
	b, err := gcsblob.OpenBucket(ctx, client, bucket, nil)
	if err != nil {
		return nil, fmt.Errorf("GCS payload store %q: %w", bucket, err)
	}
	return &store{bucket: b, options: plain(), part: gcsPart, closed: client.CloseIdleConnections}, nil
}
