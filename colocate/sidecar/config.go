package sidecar

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// Config of a Sidecar. Pod and Allow are required.
type Config struct {
	// Pod is what slips must be bound to: the pod's UID, or one that is new
	// with each process.
	Pod string
	// Namespace is the pod's; "": slips of any will do.
	Namespace string
	// Allow are the steps that may be called, whatever a slip says.
	Allow []Port
	// Names are steps, ports of Allow, that are called without a slip, too: by a path that
	// begins with the name. This is how the steps of a Knative Service are called.
	Names map[string]uint16
	// MaxInFlight bounds the calls to one step that are under way. 0: 64.
	MaxInFlight int
	// MaxChains bounds the chains in the pod, those that wait included. 0: 1024.
	MaxChains int
	// MaxWait bounds the wait for a place at a step that is not the first of its
	// chain; a request can only ask for less. 0: 10 s.
	MaxWait time.Duration
	// Inline is the most bytes of an event's data that are kept in memory. 0:
	// 256 KiB.
	Inline int
	// Memory bounds the bytes of events in memory. Answers of steps may go
	// beyond it for a while; then no chain begins. 0: 64 MiB.
	Memory int64
	// Claims is the folder for what does not fit into memory; the steps see it
	// under the same path. "": chains with larger events end.
	Claims string
	// ClaimBytes bounds all that is in Claims. 0: 1 GiB.
	ClaimBytes int64
	// MaxEventBytes bounds the data of one event. 0: 5 GiB.
	MaxEventBytes int64
	// KeepAlive is how often a request that is under way is shown that it is.
	// 0: 10 s.
	KeepAlive time.Duration
	// Idle is called when nothing has run for some seconds after something had.
	// nil: nothing is.
	Idle func()
	// Logger takes what goes wrong; nil: nothing is logged.
	Logger *slog.Logger
}

// Defaults of Config.
const (
	DefaultMaxInFlight   = 64
	DefaultMaxChains     = 1024
	DefaultMaxWait       = 10 * time.Second
	DefaultInline        = 256 << 10
	DefaultMemory        = 64 << 20
	DefaultClaimBytes    = 1 << 30
	DefaultMaxEventBytes = 5 << 30
	DefaultKeepAlive     = 10 * time.Second
)

// MaxPorts bounds Config.Allow.
const MaxPorts = 64

// Port is a step's, on the pod's loopback address.
type Port struct {
	Number uint16
	// IPv6: it listens on ::1, and not on 127.0.0.1.
	IPv6 bool
}

// Address to dial.
func (p Port) Address() string {
	host := "127.0.0.1"
	if p.IPv6 {
		host = "::1"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(p.Number)))
}

// ParsePorts reads a list such as "9101,9102,[::1]:9103". Other addresses than
// those of loopback are errors.
func ParsePorts(s string) ([]Port, error) {
	var ports []Port
	for _, part := range strings.Split(s, ",") {
		p, err := parsePort(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", part, err)
		}
		ports = append(ports, p)
	}
	return ports, nil
}

func parsePort(s string) (Port, error) {
	var p Port
	if strings.Contains(s, ":") {
		a, err := netip.ParseAddrPort(s)
		if err != nil || (a.Addr() != netip.IPv6Loopback() && a.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
			return p, fmt.Errorf("want a port, or one with 127.0.0.1: or [::1]: before it")
		}
		p = Port{Number: a.Port(), IPv6: a.Addr().Is6()}
	} else {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return p, fmt.Errorf("want a port, 1 to 65535")
		}
		p.Number = uint16(n)
	}
	if p.Number == 0 {
		return p, fmt.Errorf("want a port, 1 to 65535")
	}
	return p, nil
}

// ParseStep reads NAME=PORT, such as resize=9101 or resize=[::1]:9101.
func ParseStep(s string) (name string, p Port, err error) {
	name, port, found := strings.Cut(s, "=")
	if !found || !wire.IsStepName(name) {
		return "", p, fmt.Errorf("%q: want NAME=PORT, the name of letters, digits, '-', '_' and '.'", s)
	}
	if p, err = parsePort(port); err != nil {
		return "", p, fmt.Errorf("%q: %w", s, err)
	}
	return name, p, nil
}

// Validate tells what cannot be.
func (c *Config) Validate() error {
	switch {
	case c.Pod == "" || len(c.Pod) > 253 || strings.ContainsFunc(c.Pod, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return fmt.Errorf("pod %.32q: want its UID, of printable ASCII without spaces", c.Pod)
	case len(c.Allow) == 0:
		return fmt.Errorf("no ports are allowed: there would be no step to call")
	case len(c.Allow) > MaxPorts:
		return fmt.Errorf("%d ports are allowed, at most %d can be", len(c.Allow), MaxPorts)
	case c.MaxInFlight < 0 || c.MaxChains < 0 || c.MaxWait < 0 || c.Inline < 0 || c.Memory < 0 || c.ClaimBytes < 0 ||
		c.MaxEventBytes < 0 || c.KeepAlive < 0:
		return fmt.Errorf("a limit is negative; 0 stands for its default")
	case c.Claims != "" && !filepath.IsAbs(c.Claims):
		return fmt.Errorf("claims folder %q: want an absolute path, which is the same for the steps", c.Claims)
	}
	for i, p := range c.Allow {
		if p.Number == 0 {
			return fmt.Errorf("port 0 is allowed, which is none")
		}
		if slices.ContainsFunc(c.Allow[:i], func(q Port) bool { return q.Number == p.Number }) {
			return fmt.Errorf("port %d is allowed twice", p.Number)
		}
	}
	for name, port := range c.Names {
		if !wire.IsStepName(name) || !slices.ContainsFunc(c.Allow, func(p Port) bool { return p.Number == port }) {
			return fmt.Errorf("step %.64q at port %d: want a name of letters, digits, '-', '_' and '.', and a port that is allowed", name, port)
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.MaxChains == 0 {
		c.MaxChains = DefaultMaxChains
	}
	if c.Inline == 0 {
		c.Inline = DefaultInline
	}
	def(&c.Memory, DefaultMemory)
	def(&c.ClaimBytes, DefaultClaimBytes)
	def(&c.MaxEventBytes, DefaultMaxEventBytes)
	def((*int64)(&c.MaxWait), int64(DefaultMaxWait))
	def((*int64)(&c.KeepAlive), int64(DefaultKeepAlive))
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
