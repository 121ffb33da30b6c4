package kafkabroker

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

// FreeAddress is one of the loopback interface on which nobody listens. Its port
// is below those that the kernel gives to outgoing connections, and nobody else who
// calls this gets it while this process runs: it stays free while its owner is dead.
func FreeAddress() (string, error) {
	for range 1000 {
		port := 12000 + rand.IntN(20000)
		// The same port of another loopback address says that this one is taken.
		mark, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
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
