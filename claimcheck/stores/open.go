// Package stores opens a claimcheck.Store by its URL, as it stands in the
// configuration:
//
//	file:///var/lib/claims                               a folder, made if missing
//	mem://                                               this process's memory, for tests
//	s3://bucket?region=eu-west-1                         Amazon S3
//	s3://bucket?endpoint=http://minio:9000               anything that speaks its protocol
//	nats://bucket?replicas=3                             JetStream, on the connection of Options
//	nats://bucket?url=nats://nats:4222                   JetStream, on a connection of its own
//	gs://bucket, azblob://container                      with the build tags gcs, azure
//
// Credentials are never part of the URL: it is shown in logs and conditions.
package stores

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
	"github.com/sidestep-dev/sidestep/claimcheck/natsstore"
)

// ErrURL: the URL is not one of a store.
var ErrURL = errors.New("invalid payload store URL")

// Options for Open.
type Options struct {
	// NATS is the connection for nats:// URLs without a url parameter. The caller
	// closes it, after the store.
	NATS *nats.Conn
	// Existing has a folder or bucket that is missing be an error,
	// claimcheck.ErrUnavailable, instead of being made.
	Existing bool
}

// scheme is how URLs of one kind are read and opened.
type scheme struct {
	// params that the query may have. Those in place tell where the store is, the
	// others how to reach it.
	params map[string]param
	check  func(*url.URL) error
	open   func(context.Context, *url.URL, Options) (claimcheck.Store, error)
}

type param struct {
	place bool
	check func(string) error
}

// schemes by name. Files with build tags add theirs.
func schemes() map[string]scheme {
	all := map[string]scheme{
		"file": {check: checkFile, open: openFile},
		"mem":  {check: checkMemory, open: openMemory},
		"s3": {check: checkBucket, open: openS3, params: map[string]param{
			"endpoint": {place: true, check: checkEndpoint},
			"region":   {place: true}, "credentials-file": {}, "profile": {}, "part-size": {check: checkSize},
		}},
		"nats": {check: checkBucket, open: openNATS, params: map[string]param{
			"url": {place: true, check: checkNATS}, "credentials-file": {}, "replicas": {check: checkReplicas}, "max-bytes": {check: checkSize},
		}},
	}
	maps.Copy(all, tagged())
	return all
}

// Check tells what is wrong with a URL, without opening anything.
func Check(rawURL string) error {
	_, _, err := parse(rawURL)
	return err
}

// Open opens the store that a URL names.
func Open(ctx context.Context, rawURL string, o Options) (claimcheck.Store, error) {
	u, s, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	store, err := s.open(ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("open payload store %s: %w", rawURL, err)
	}
	return store, nil
}

// ID names the place that a URL leads to: other credentials, or another part
// size, do not make it another store.
func ID(rawURL string) (string, error) {
	u, s, err := parse(rawURL)
	if err != nil {
		return "", err
	}
	place := u.Scheme + "\x00" + u.Host + "\x00" + strings.TrimRight(u.Path, "/")
	query := u.Query()
	for _, name := range slices.Sorted(maps.Keys(s.params)) {
		if s.params[name].place {
			place += "\x00" + query.Get(name)
		}
	}
	sum := sha256.Sum256([]byte(place))
	return u.Scheme + "-" + hex.EncodeToString(sum[:6]), nil
}

func parse(rawURL string) (*url.URL, scheme, error) {
	fail := func(format string, args ...any) (*url.URL, scheme, error) {
		return nil, scheme{}, fmt.Errorf("%w: "+format, append([]any{ErrURL}, args...)...)
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		var why *url.Error
		if errors.As(err, &why) { // without the URL, which may hold a password
			err = why.Err
		}
		return fail("%w", err)
	}
	all := schemes()
	s, ok := all[u.Scheme]
	if !ok {
		if tag, known := buildTags[u.Scheme]; known {
			return fail("%s:// needs a build with -tags %s", u.Scheme, tag)
		}
		return fail("scheme %q is none of %s", u.Scheme, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	if u.User != nil {
		return fail("it must not hold credentials: use a file or the environment")
	}
	if u.Fragment != "" || u.Opaque != "" {
		return fail("%s must be followed by //", u.Scheme)
	}
	if err := s.check(u); err != nil {
		return fail("%w", err)
	}
	if err := s.checkQuery(u.RawQuery); err != nil {
		return fail("%w", err)
	}
	return u, s, nil
}

// buildTags are needed for what needs many more modules.
var buildTags = map[string]string{"gs": "gcs", "azblob": "azure"}

func (s scheme) checkQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		p, known := s.params[name]
		switch {
		case !known && len(s.params) == 0:
			return fmt.Errorf("parameter %q: it takes none", name)
		case !known:
			return fmt.Errorf("parameter %q is none of %s", name, strings.Join(slices.Sorted(maps.Keys(s.params)), ", "))
		case len(query[name]) > 1:
			return fmt.Errorf("parameter %q is there %d times", name, len(query[name]))
		case query.Get(name) == "":
			return fmt.Errorf("parameter %q is empty", name)
		}
		if p.check != nil {
			if err := p.check(query.Get(name)); err != nil {
				return fmt.Errorf("parameter %q: %w", name, err)
			}
		}
	}
	return nil
}

// size reads a number of bytes that was checked; 0 if there is none.
func size(u *url.URL, name string) int64 {
	n, _ := strconv.ParseInt(u.Query().Get(name), 10, 64)
	return n
}

func openFile(_ context.Context, u *url.URL, o Options) (claimcheck.Store, error) {
	if o.Existing {
		if _, err := os.Stat(u.Path); err != nil {
			return nil, fmt.Errorf("%w: %w", claimcheck.ErrUnavailable, err)
		}
	}
	return blobstore.File(u.Path)
}

func openMemory(context.Context, *url.URL, Options) (claimcheck.Store, error) {
	return blobstore.Memory(), nil
}

func openS3(ctx context.Context, u *url.URL, _ Options) (claimcheck.Store, error) {
	q := u.Query()
	return blobstore.S3(ctx, blobstore.S3Config{
		Bucket: u.Host, Region: q.Get("region"), Endpoint: q.Get("endpoint"),
		CredentialsFile: q.Get("credentials-file"), Profile: q.Get("profile"), PartSize: int(size(u, "part-size")),
	})
}

func openNATS(ctx context.Context, u *url.URL, o Options) (claimcheck.Store, error) {
	q := u.Query()
	c := natsstore.Config{Bucket: u.Host, Replicas: int(size(u, "replicas")), MaxBytes: size(u, "max-bytes"), Existing: o.Existing}
	if address := q.Get("url"); address != "" {
		return dialNATS(ctx, address, q.Get("credentials-file"), c)
	}
	if o.NATS == nil {
		return nil, fmt.Errorf("%w: there is no NATS connection: give the parameter url", ErrURL)
	}
	return natsstore.Open(ctx, o.NATS, c)
}

func dialNATS(ctx context.Context, address, credentials string, c natsstore.Config) (claimcheck.Store, error) {
	options := []nats.Option{nats.Name("sidestep claims"), nats.MaxReconnects(-1)}
	if credentials != "" {
		options = append(options, nats.UserCredentials(credentials))
	}
	conn, err := nats.Connect(address, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", claimcheck.ErrUnavailable, err)
	}
	s, err := natsstore.Open(ctx, conn, c)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &dialed{s, conn}, nil
}

// dialed closes the connection with the store.
type dialed struct {
	claimcheck.Store
	conn *nats.Conn
}

func (d *dialed) Close() error {
	err := d.Store.Close()
	d.conn.Close()
	return err
}

// credentialsFile is the parameter that names a file with credentials.
const credentialsFile = "credentials-file"

// TakesCredentials tells whether a URL may be given a file with credentials, and has
// none.
func TakesCredentials(rawURL string) bool {
	u, s, err := parse(rawURL)
	if err != nil {
		return false
	}
	_, takes := s.params[credentialsFile]
	return takes && !u.Query().Has(credentialsFile) && !NeedsNATS(rawURL)
}

// WithCredentials is a URL of the same store, with the credentials in a file.
func WithCredentials(rawURL, file string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return rawURL
	}
	q := u.Query()
	q.Set(credentialsFile, file)
	u.RawQuery = q.Encode()
	return u.String()
}
