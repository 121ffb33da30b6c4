// Command s3 is a real S3 server on loopback, for tests and benchmarks:
// versitygw over a folder.
//
//	test --> go build --> s3 -dir D --> {"url":"http://127.0.0.1:41234"} on stdout
//	  '---- stdin: closed when the test is over, however it ends --> exit
//
// It is a module of its own, so that what it needs stays out of the main one.
// Credentials are those of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	dir := flag.String("dir", "", "folder of the buckets; made if missing")
	addr := flag.String("addr", "127.0.0.1:0", "address to listen at; port 0 for any")
	bucket := flag.String("bucket", "claims", "bucket to make")
	flag.Parse()
	if err := run(*dir, *addr, *bucket); err != nil {
		fmt.Fprintln(os.Stderr, "s3:", err)
		os.Exit(1)
	}
}

func run(dir, addr, bucket string) error {
	if dir == "" {
		return errors.New("-dir is missing")
	}
	addr, err := freePort(addr)
	if err != nil {
		return err
	}
	// The gateway goes to the folder of its buckets: paths must be absolute.
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	buckets, sidecar := filepath.Join(dir, "buckets"), filepath.Join(dir, "meta")
	for _, d := range []string{filepath.Join(buckets, bucket), sidecar} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// Attributes in files of their own: not every file system of a test machine has xattrs.
	attributes, err := meta.NewSideCar(sidecar)
	if err != nil {
		return err
	}
	store, err := posix.New(buckets, attributes, posix.PosixOpts{SideCarDir: sidecar})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	go announce(ctx, addr)
	return embedgw.RunVersityGW(ctx, store, &embedgw.Config{
		RootUserAccess: os.Getenv("AWS_ACCESS_KEY_ID"),
		RootUserSecret: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		Region:         "us-east-1",
		Ports:          []string{addr},
		MaxConnections: 10_000, MaxRequests: 10_000, MultipartMaxParts: 10_000,
		Quiet: true, KeepAlive: true,
	})
}

// freePort replaces port 0: the gateway does not tell which one it got.
func freePort(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// announce prints the line that a test waits for once the port answers.
func announce(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
			fmt.Printf("{\"url\":\"http://%s\"}\n", addr)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
