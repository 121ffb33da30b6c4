//go:build azure

package blobstore

import (
	"context"
	"fmt"
	"io"

	"gocloud.dev/blob/azureblob"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// Azure opens a container of the storage account that the environment names
// (AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY and their like). Blocks that nobody
// committed vanish by themselves after a week.
func Azure(ctx context.Context, container string) (claimcheck.Store, error) {
	service, err := azureblob.NewServiceURL(azureblob.NewDefaultServiceURLOptions())
	if err != nil {
		return nil, fmt.Errorf("azure payload store %q: %w", container, err)
	}
	client, err := azureblob.NewDefaultClient(service, azureblob.ContainerName(container))
	if err != nil {
		return nil, fmt.Errorf("azure payload store %q: %w", container, err)
	}
	b, err := azureblob.OpenBucket(ctx, client, nil)
	if err != nil {
		return nil, fmt.Errorf("azure payload store %q: %w", container, err)
	}
	options := plain()
	options.ContentType = contentType
	options.BufferSize, options.MaxConcurrency = minPart, 1
	return &store{bucket: b, part: minPart, upload: func(ctx context.Context, name string, src io.Reader) error {
		return b.Upload(ctx, name, src, &options)
	}}, nil
}
