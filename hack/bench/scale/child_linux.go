package main

import "syscall"

// childAttr keeps Ctrl-C from the children, which are ended in order, and kills
// them should we be killed.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
