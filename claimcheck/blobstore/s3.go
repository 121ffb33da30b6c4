package blobstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"gocloud.dev/blob/s3blob"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

// S3Config says where a bucket is. Bucket is required.
type S3Config struct {
	Bucket string
	// Region defaults to what the environment says, and to us-east-1.
	Region string
	// Endpoint is the URL of a server other than Amazon's; its buckets are
	// addressed by path.
	Endpoint string
	// CredentialsFile and Profile say where to look for credentials: by default
	// in the environment, and in what else the AWS SDK knows.
	CredentialsFile, Profile string
	// CredentialsAge is how long what the file holds is used before it is read again:
	// it may hold other keys by then. 0: 30 s.
	CredentialsAge time.Duration
	// PartSize is how much of an upload is sent, and held in memory, at a time:
	// at least, and by default, 5 MiB. An object has at most 10,000 parts.
	PartSize int
}

const minPart = 5 << 20

// S3 opens a bucket. It does not ask the server for it.
func S3(ctx context.Context, c S3Config) (claimcheck.Store, error) {
	if c.Bucket == "" {
		return nil, errors.New("S3 payload store: bucket is missing")
	}
	client, transport, err := s3Client(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("S3 payload store %q: %w", c.Bucket, err)
	}
	bucket, err := s3blob.OpenBucket(ctx, client, c.Bucket, nil)
	if err != nil {
		return nil, fmt.Errorf("S3 payload store %q: %w", c.Bucket, err)
	}
	u, part := &uploads{client, c.Bucket}, int64(max(c.PartSize, minPart))
	return &store{
		bucket: bucket, upload: newUploader(u, part).put, part: part,
		partials: u.list, discard: u.discard, gone: noBucket,
		closed: transport.CloseIdleConnections,
	}, nil
}

// s3Client makes a client and the connections it uses.
func s3Client(ctx context.Context, c S3Config) (*s3.Client, *http.Transport, error) {
	// The SDK's own kind: it adds the certificates that AWS_CA_BUNDLE names.
	buildable := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 64
	})
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(buildable),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff = 3, time.Second
			})
		}),
		// Not every server knows the newer checksums, and we have our own.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.CredentialsFile != "" {
		options = append(options, config.WithSharedCredentialsFiles([]string{c.CredentialsFile}))
		if _, err := c.credentials(ctx); err == nil { // else what it says is the SDK's to understand
			options = append(options, config.WithCredentialsProvider(aws.NewCredentialsCache(aws.CredentialsProviderFunc(c.credentials))))
		}
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if b, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		buildable = b
	}
	transport := buildable.GetTransport()
	cfg.HTTPClient = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
			o.UsePathStyle = true
		}
	})
	return client, transport, nil
}

const credentialsAge = 30 * time.Second

// credentials are what the file holds now.
func (c *S3Config) credentials(ctx context.Context) (aws.Credentials, error) {
	profile := cmp.Or(c.Profile, os.Getenv("AWS_PROFILE"), "default")
	shared, err := config.LoadSharedConfigProfile(ctx, profile, func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{c.CredentialsFile}, []string{}
	})
	if err != nil {
		return aws.Credentials{}, err
	}
	found := shared.Credentials
	if !found.HasKeys() {
		return aws.Credentials{}, fmt.Errorf("no keys for profile %q in %s", profile, c.CredentialsFile)
	}
	found.CanExpire, found.Expires = true, time.Now().Add(cmp.Or(c.CredentialsAge, credentialsAge))
	return found, nil
}

func noBucket(err error) bool {
	var e smithy.APIError
	return errors.As(err, &e) && e.ErrorCode() == "NoSuchBucket"
}

// uploads are those in several parts that nobody ended: the server keeps their
// parts, and they are in no listing of objects.
type uploads struct {
	client *s3.Client
	bucket string
}

// uploadMark divides an object's name from the upload's id. ValidName refuses
// it, so that no object has such a name.
const uploadMark = "#"

func (u *uploads) list(ctx context.Context, prefix string) iter.Seq2[claimcheck.Object, error] {
	return func(yield func(claimcheck.Object, error) bool) {
		in := &s3.ListMultipartUploadsInput{Bucket: &u.bucket, Prefix: aws.String(prefix)}
		for {
			out, err := u.client.ListMultipartUploads(ctx, in)
			if err != nil {
				yield(claimcheck.Object{}, err)
				return
			}
			for _, up := range out.Uploads {
				o := claimcheck.Object{
					Name:     aws.ToString(up.Key) + uploadMark + aws.ToString(up.UploadId),
					Modified: aws.ToTime(up.Initiated), Partial: true,
				}
				if !yield(o, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
		}
	}
}

func (u *uploads) discard(ctx context.Context, name string) (bool, error) {
	key, id, ok := strings.Cut(name, uploadMark)
	if !ok {
		return false, nil
	}
	return true, u.forget(ctx, key, id)
}

// forget aborts an upload. One that is not there is no error.
func (u *uploads) forget(ctx context.Context, key, id string) error {
	_, err := u.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &u.bucket, Key: &key, UploadId: &id,
	})
	if missing := (*types.NoSuchUpload)(nil); errors.As(err, &missing) {
		return nil
	}
	return err
}
