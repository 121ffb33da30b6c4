package kafkabroker

import "syscall"

// childAttr has the kernel end a broker whose parent died, unless it is to
// outlive it.
func childAttr(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
