package main

import "syscall"

// childAttr has a child die with the tests, however they end.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
