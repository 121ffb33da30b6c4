//go:build !linux

package natsbackend

import "testing"

func smallDisk(t testing.TB) string {
	t.Helper()
	t.Skip("a small file system is mounted on Linux only")
	return ""
}
