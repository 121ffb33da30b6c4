//go:build !linux

package kafkabroker

import "syscall"

// childAttr: here a broker may outlive a parent that was killed.
func childAttr(bool) *syscall.SysProcAttr { return nil }
