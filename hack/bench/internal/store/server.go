package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrStart: the embedded server did not come up.
var ErrStart = errors.New("the embedded server did not start")

// start runs a server that keeps its files under dir, and listens on a free
// port of the loopback interface if listen is true.
func start(dir string, listen bool) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "bench",
		JetStream:  true,
		StoreDir:   dir,
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		DontListen: !listen,
		NoSigs:     true,
		NoLog:      true,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		s.Shutdown()
		return nil, ErrStart
	}
	return s, nil
}

// Transport is how a client in the server's own process reaches it.
type Transport string

// The transports. InProcess is a net.Pipe; TCP is the loopback interface.
const (
	InProcess Transport = "inprocess"
	TCP       Transport = "tcp"
)

// open starts a server and connects to it. What close returns frees both.
func open(dir string, t Transport) (js jetstream.JetStream, closeAll func(), err error) {
	s, err := start(dir, t == TCP)
	if err != nil {
		return nil, nil, err
	}
	url, options := nats.DefaultURL, []nats.Option{nats.InProcessServer(s)}
	if t == TCP {
		url, options = s.ClientURL(), nil
	}
	nc, js, err := connect(url, options...)
	if err != nil {
		s.Shutdown()
		return nil, nil, err
	}
	return js, func() {
		nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
	}, nil
}

func connect(url string, options ...nats.Option) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the server: %w", err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("open JetStream: %w", err)
	}
	return nc, js, nil
}

// Serve runs a server alone, on loopback TCP, until ctx ends. Its URL is given
// to ready.
func Serve(ctx context.Context, dir string, ready func(url string) error) error {
	s, err := start(dir, true)
	if err != nil {
		return err
	}
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if err := ready(s.ClientURL()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
