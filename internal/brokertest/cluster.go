package brokertest

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// Cluster is three brokers that keep records together. Each can be killed and
// started again alone.
type Cluster []*Broker

// StartCluster returns a cluster that serves JetStream. Its brokers do not tell
// clients of each other, so that a client stays with the addresses it was given.
func StartCluster(t testing.TB) Cluster {
	t.Helper()
	c := make(Cluster, 3)
	routes := make([]string, len(c))
	for i := range c {
		c[i] = &Broker{dir: t.TempDir(), Address: FreeAddress(t)}
		routes[i] = FreeAddress(t)
	}
	for i, b := range c {
		// Its own is the first.
		b.routes = strings.Join(append([]string{routes[i]}, append(routes[:i:i], routes[i+1:]...)...), ",")
		b.launch(t)
		t.Cleanup(b.Kill)
	}
	for _, b := range c {
		b.await(t)
	}
	return c
}

// Restart kills all at once and starts them again on what they stored.
func (c Cluster) Restart(t testing.TB) {
	t.Helper()
	for _, b := range c {
		b.Kill()
	}
	for _, b := range c {
		b.launch(t)
	}
	for _, b := range c {
		b.await(t)
	}
}

// Addresses are those of all, in order.
func (c Cluster) Addresses() []string {
	a := make([]string, len(c))
	for i, b := range c {
		a[i] = b.Address
	}
	return a
}

func joinCluster(o *server.Options, routes []string) error {
	host, port, err := net.SplitHostPort(routes[0])
	if err != nil {
		return err
	}
	o.ServerName = "node-" + port
	o.Cluster.Name, o.Cluster.Host, o.Cluster.NoAdvertise = "test", host, true
	if o.Cluster.Port, err = strconv.Atoi(port); err != nil {
		return err
	}
	for _, r := range routes[1:] {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: r})
	}
	return nil
}
