// Package freeport gives ports on which nobody listens to those who must name one before
// it is listened on, or who want it back when its owner was killed.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
)

// reserved are the listeners that keep ports for this process.
var reserved struct {
	sync.Mutex
	listeners []net.Listener
}

// marks is the loopback address where a listener on a port says that it is taken on
// 127.0.0.1. Nobody else is known to listen there.
const marks = "127.12.0.1"

// Address is one of the loopback interface on which nobody listens. Its port
// is below those that the kernel gives to outgoing connections, and nobody else who
// calls this gets it while this process runs: it stays free while its owner is dead.
// It may be called concurrently, in any number of processes.
func Address() (string, error) {
	for range 1000 {
		port := 12000 + rand.IntN(20000)
		mark, err := net.Listen("tcp", fmt.Sprintf("%s:%d", marks, port))
		if err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) { // there is one loopback address on macOS
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			if mark != nil {
				mark.Close()
			}
			continue
		}
		l.Close()
		if mark != nil {
			reserved.Lock()
			reserved.listeners = append(reserved.listeners, mark)
			reserved.Unlock()
		}
		return address, nil
	}
	return "", errors.New("no free port found")
}
