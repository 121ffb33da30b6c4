//go:build !linux

package brokertest

import "syscall"

// childAttr: here a child sees by its stdin that its parent died.
func childAttr() *syscall.SysProcAttr { return nil }
