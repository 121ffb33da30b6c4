package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sidestep-dev/sidestep/claimcheck"
	"github.com/sidestep-dev/sidestep/claimcheck/blobstore"
	"github.com/sidestep-dev/sidestep/claimcheck/storetest"
	"github.com/sidestep-dev/sidestep/claimcheck/storetest/s3server"
	"github.com/sidestep-dev/sidestep/internal/freeport"
)

func openS3(t *testing.T, c blobstore.S3Config) claimcheck.Store {
	t.Helper()
	s, err := blobstore.S3(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// credentialsFile is one of the kind that kubectl would mount from a Secret.
func credentialsFile(t *testing.T, srv *s3server.Server) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", srv.AccessKey, srv.SecretKey)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestS3(t *testing.T) {
	srv := s3server.Start(t)
	file := credentialsFile(t, srv)
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(srv.URL), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(srv.AccessKey, srv.SecretKey, ""),
	})
	var buckets atomic.Int64
	var bucket string // that was opened last
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T) claimcheck.Store {
			bucket = fmt.Sprintf("claims-%d", buckets.Add(1))
			if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
				t.Fatal(err)
			}
			return openS3(t, blobstore.S3Config{Bucket: bucket, Endpoint: srv.URL, CredentialsFile: file})
		},
		Down: func(t *testing.T) claimcheck.Store {
			return openS3(t, blobstore.S3Config{Bucket: "claims", Endpoint: "http://" + closedPort(t), CredentialsFile: file})
		},
		Interrupt: func(t *testing.T, _ claimcheck.Store, name string) {
			up, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &name})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.UploadPart(t.Context(), &s3.UploadPartInput{
				Bucket: &bucket, Key: &name, UploadId: up.UploadId, PartNumber: aws.Int32(1),
				Body: bytes.NewReader(make([]byte, 5<<20)),
			})
			if err != nil {
				t.Fatal(err)
			}
		},
	})
}

// A file is replaced by one with other keys, as a Secret's is.
func TestS3CredentialsAreReadAnew(t *testing.T) {
	srv := s3server.Start(t)
	file := credentialsFile(t, srv)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = no\naws_secret_access_key = body\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openS3(t, blobstore.S3Config{Bucket: "claims", Endpoint: srv.URL, CredentialsFile: file, CredentialsAge: time.Millisecond})
	defer s.Close()
	if err := s.Put(t.Context(), "x", strings.NewReader("x")); err == nil {
		t.Fatal("the wrong keys were taken")
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := s.Put(t.Context(), "x", strings.NewReader("x"))
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestAMissingBucketIsNotAMissingObject(t *testing.T) {
	srv := s3server.Start(t)
	s := openS3(t, blobstore.S3Config{Bucket: "no-such", Endpoint: srv.URL, CredentialsFile: credentialsFile(t, srv)})
	defer s.Close()
	if _, err := s.Open(t.Context(), "x", 0, -1); !errors.Is(err, claimcheck.ErrUnavailable) {
		t.Errorf("open: got %v, want ErrUnavailable", err)
	}
	if err := s.Put(t.Context(), "x", strings.NewReader("x")); !errors.Is(err, claimcheck.ErrUnavailable) {
		t.Errorf("put: got %v, want ErrUnavailable", err)
	}
}

func TestS3ServerThatDiesAndComesBack(t *testing.T) {
	srv := s3server.Start(t)
	s := openS3(t, blobstore.S3Config{Bucket: "claims", Endpoint: srv.URL, CredentialsFile: credentialsFile(t, srv)})
	defer s.Close()
	put := func(name string) error { return s.Put(t.Context(), name, strings.NewReader(name)) }
	if err := put("before"); err != nil {
		t.Fatal(err)
	}
	srv.Kill()
	if err := put("while"); !errors.Is(err, claimcheck.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	srv.Restart(t)
	if err := put("after"); err != nil {
		t.Error(err)
	}
	var names []string
	for o, err := range s.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Name)
	}
	if got := strings.Join(names, " "); got != "after before" {
		t.Errorf("got %q, want what was put while there was a server", got)
	}
}

// closedPort is an address at which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	a, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return a
}
