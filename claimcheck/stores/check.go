package stores

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
)

func checkFile(u *url.URL) error {
	switch {
	case u.Host != "":
		return fmt.Errorf("file:// takes an absolute path, as in file:///%s%s", u.Host, u.Path)
	case u.Path == "" || u.Path == "/":
		return errors.New("file:// without a folder")
	case path.Clean(u.Path) != u.Path && path.Clean(u.Path)+"/" != u.Path:
		return fmt.Errorf("path %q is not clean: want %q", u.Path, path.Clean(u.Path))
	}
	return nil
}

func checkMemory(u *url.URL) error {
	if u.Host != "" || u.Path != "" {
		return errors.New("mem:// takes neither a host nor a path")
	}
	return nil
}

// bucketName is what S3, GCS, Azure and NATS have in common, and a little more.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,221}$`)

func checkBucket(u *url.URL) error {
	switch {
	case u.Host == "":
		return fmt.Errorf("%s:// without a bucket", u.Scheme)
	case !bucketName.MatchString(u.Host):
		return fmt.Errorf("bucket %q is not a name", u.Host)
	case u.Path != "" && u.Path != "/":
		return fmt.Errorf("path %q: a bucket is used whole", u.Path)
	}
	return nil
}

func checkEndpoint(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("%q is not a URL like https://host:port", s)
	}
	return nil
}

func checkNATS(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
		return fmt.Errorf("%q is not a URL like nats://host:port", s)
	}
	if u.User != nil {
		return errors.New("it must not hold credentials: give credentials-file")
	}
	return nil
}

func checkSize(s string) error {
	if n, err := strconv.ParseInt(s, 10, 64); err != nil || n <= 0 || n > 1<<50 {
		return fmt.Errorf("%q is not a number of bytes", s)
	}
	return nil
}

func checkReplicas(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 1 || n > 5 {
		return fmt.Errorf("%q is not between 1 and 5", s)
	}
	return nil
}
