//go:build unix && !linux

package main

import "syscall"

// childAttr keeps Ctrl-C from the children, which are ended in order.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
