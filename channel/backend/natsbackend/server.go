package natsbackend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ServerConfig of an embedded JetStream server. Dir is required.
type ServerConfig struct {
	// Dir holds the server's files. One process at a time may use it: the
	// caller sees to that.
	Dir string
	// SyncAlways has every record reach the disk (fsync) before it is
	// confirmed. Without it a record survives the death of any process,
	// but not the loss of power.
	SyncAlways bool
	// SyncInterval is how often they do otherwise. 0: every 2 minutes.
	SyncInterval time.Duration
	// MaxPayload bounds a message, in bytes. 0 means 8 MiB.
	MaxPayload int32
	// Logger takes the server's warnings and errors. nil: nothing is logged.
	Logger *slog.Logger
}

// defaultMaxPayload is the most that the server takes without a warning.
const defaultMaxPayload = 8 << 20

const (
	serverReady = 30 * time.Second
	// ackFlush is a little more than the server takes to write a consumer's
	// acks to its file.
	ackFlush = 150 * time.Millisecond
)

// Server is a JetStream server in this process with nobody else on it: it
// listens nowhere. Config.Server connects to it.
type Server struct {
	config ServerConfig
	disk   *disk

	mu      sync.Mutex
	current *server.Server
	stopped bool

	stop context.CancelFunc
	done sync.WaitGroup

	// All who use the server are in this process. shards keeps two of them
	// from changing one stream at the same time, and a consumer from being
	// made meanwhile, which the server does not (its file store reads the
	// stream's configuration without a lock); fresh is for what the first
	// does after those of the process before are dead.
	shards [shardCount]sync.RWMutex
	fresh  sync.Once
}

// StartServer starts a server and returns once it is ready: after all records
// in Dir were found. Close stops it.
func StartServer(c ServerConfig) (*Server, error) {
	if c.Dir == "" {
		return nil, errors.New("nats: the embedded server needs a folder")
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = defaultMaxPayload
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("nats: make folder of the embedded server: %w", err)
	}
	s := &Server{config: c, disk: newDisk(c.Dir)}
	var err error
	if s.current, err = s.start(); err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.done.Go(func() { s.watch(ctx) })
	return s, nil
}

func (s *Server) start() (*server.Server, error) {
	if err := mendFiles(s.config.Dir, s.config.Logger); err != nil {
		return nil, fmt.Errorf("nats: look through the files of the embedded server: %w", err)
	}
	n, err := server.NewServer(&server.Options{
		ServerName:   "sidestep-embedded",
		DontListen:   true,
		JetStream:    true,
		StoreDir:     filepath.Clean(s.config.Dir),
		SyncAlways:   s.config.SyncAlways,
		SyncInterval: s.config.SyncInterval,
		MaxPayload:   s.config.MaxPayload,
		// The whole disk but what disk keeps free; the server's own default
		// is a fraction of it.
		JetStreamMaxStore: 1 << 62,
		NoSigs:            true,
		// A slow reader is this very process: it must not be cut off.
		WriteDeadline: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("nats: configure the embedded server: %w", err)
	}
	n.SetLoggerV2(&logger{s.config.Logger}, false, false, false)
	n.Start()
	if !n.ReadyForConnections(serverReady) || !n.JetStreamEnabled() {
		n.Shutdown()
		return nil, fmt.Errorf("nats: the embedded server in %s did not become ready", s.config.Dir)
	}
	return n, nil
}

// InProcessConn implements nats.InProcessConnProvider: after the server was
// started again it leads to the new one.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	n := s.current
	s.mu.Unlock()
	if n == nil || !n.Running() {
		return nil, errors.New("nats: the embedded server is not running")
	}
	return n.InProcessConn()
}

// watch looks after the disk, and brings the server back once a full disk has
// kept it from writing.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.disk.look()
		if s.disk.outside() != nil {
			continue
		}
		s.mu.Lock()
		n, stopped := s.current, s.stopped
		s.mu.Unlock()
		if stopped {
			return
		}
		if err := broken(n); err != nil {
			s.restart(err)
		}
	}
}

// broken tells why n cannot store records any more, or nil. A stream that could
// not be written once takes nothing from then on, and does not even answer,
// while its server goes on; only the server's health tells.
func broken(n *server.Server) error {
	switch {
	case n == nil:
		return errors.New("it did not start")
	case !n.JetStreamEnabled():
		return errors.New("it has turned its store off")
	}
	for _, e := range n.Healthz(&server.HealthzOptions{Details: true}).Errors {
		// Other errors pass by themselves, as that of a stream which is being
		// made, or would be the same after a restart.
		if e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "write error") {
			return errors.New(e.Error)
		}
	}
	return nil
}

func (s *Server) restart(why error) {
	s.config.Logger.Warn("starting the embedded server again", "reason", why)
	s.mu.Lock()
	old := s.current
	s.current = nil
	s.mu.Unlock()
	if old != nil {
		old.Shutdown()
		old.WaitForShutdown()
	}
	n, err := s.start()
	if err != nil {
		s.config.Logger.Error("the embedded server does not start; trying again", "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		n.Shutdown()
		return
	}
	s.current = n
}

// Close stops the server. Ending ctx only shortens the wait: the server then
// goes on to close its files, and nothing is lost if the process ends first.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	again := s.stopped
	s.stopped = true
	s.mu.Unlock()
	if again {
		return nil
	}
	s.stop()
	down := make(chan struct{})
	go func() {
		defer close(down)
		s.done.Wait() // it may be starting the server again
		s.shutdown(ctx)
	}()
	// The server takes about 10 ms for each consumer.
	select {
	case <-down:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("nats: the embedded server is still closing its files: %w", context.Cause(ctx))
	}
}

// shutdown ends the server. Acks that have arrived are in the files by then,
// whatever becomes of the rest.
func (s *Server) shutdown(ctx context.Context) {
	s.mu.Lock()
	n := s.current
	s.mu.Unlock()
	if n == nil {
		return
	}
	select {
	case <-time.After(ackFlush):
	case <-ctx.Done():
	}
	n.Shutdown()
	n.WaitForShutdown()
}

// logger passes what the server has to say to slog, without its notices.
type logger struct{ log *slog.Logger }

func (l *logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *logger) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *logger) Debugf(string, ...any)           {}
func (l *logger) Tracef(string, ...any)           {}
