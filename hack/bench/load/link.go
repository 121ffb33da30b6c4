package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// link is a network namespace of its own, behind a pair of interfaces with a token
// bucket in each direction.
type link struct {
	space, address string
}

// made links, to name them.
var links int

// errLink: there can be no links here.
var errLink = errors.New("links of a known rate need root, ip and tc")

func newLink(bitsPerSecond int) (*link, error) {
	links++
	name := fmt.Sprintf("sl%d-%d", os.Getpid()%10000, links)
	// 198.18.0.0/15 is for benchmarks (RFC 2544). Each link has four addresses that no
	// other gets: a namespace may outlive its link until the process ends, as the
	// process's first thread never does.
	near, far := linkAddresses(links)
	l := &link{space: name, address: far.String()}
	bucket := fmt.Sprintf("root tbf rate %dbit burst 256kb latency 400ms", bitsPerSecond)
	for _, line := range []string{
		"ip netns add " + name,
		"ip link add " + name + "a type veth peer name " + name + "b netns " + name,
		"ip address add " + near.String() + "/30 dev " + name + "a",
		"ip link set " + name + "a up",
		"ip -n " + name + " address add " + l.address + "/30 dev " + name + "b",
		"ip -n " + name + " link set " + name + "b up",
		"tc qdisc add dev " + name + "a " + bucket,
		"tc -n " + name + " qdisc add dev " + name + "b " + bucket,
	} {
		if err := run(line); err != nil {
			l.close()
			return nil, fmt.Errorf("%w: %w", errLink, err)
		}
	}
	return l, nil
}

// linkAddresses are those of the ends of link n.
func linkAddresses(n int) (near, far netip.Addr) {
	n *= 4
	at := [4]byte{198, 18 + byte(n>>16)&1, byte(n >> 8), byte(n)}
	near = netip.AddrFrom4(at).Next()
	return near, near.Next()
}

// close takes the namespace away, and the interfaces with it.
func (l *link) close() {
	if err := run("ip netns del " + l.space); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
	}
}

func run(line string) error {
	words := strings.Fields(line)
	if said, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(said)))
	}
	return nil
}

// listen makes a listener at the far end: a socket stays in the namespace in which it
// was made.
func (l *link) listen() (net.Listener, error) {
	if l == nil {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	type made struct {
		net.Listener
		err error
	}
	done := make(chan made)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, and nothing else
		// runs in the namespace.
		runtime.LockOSThread()
		space, err := os.Open(filepath.Join("/run/netns", l.space))
		if err == nil {
			err = unix.Setns(int(space.Fd()), unix.CLONE_NEWNET)
			space.Close()
		}
		if err != nil {
			done <- made{nil, fmt.Errorf("enter %s: %w", l.space, err)}
			return
		}
		listener, err := net.Listen("tcp", l.address+":0")
		done <- made{listener, err}
	}()
	m := <-done
	return m.Listener, m.err
}
