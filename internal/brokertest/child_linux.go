package brokertest

import "syscall"

// childAttr has the kernel end a child whose parent died.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
