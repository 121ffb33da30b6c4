package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/ingress"
	"github.com/sidestep-dev/sidestep/claimcheck"
)

// Bounds on clients of the servers that are net/http's.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 5 * time.Minute
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	// shutdownGrace is for what must not take long once draining is over.
	shutdownGrace = 5 * time.Second
)

// serving is one call of Serve.
type serving struct {
	*Replica
	life    Life
	running sync.WaitGroup
	failed  chan error
	taking  []interface{ Shutdown(context.Context) error } // servers that take events
}

// Serve runs the servers and what belongs to the life of the replica, until ctx ends
// or one of the servers fails, and then stops in order. It is called once, after
// Open.
func (r *Replica) Serve(ctx context.Context, life Life) error {
	s := &serving{Replica: r, life: life, failed: make(chan error, 3)}
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer s.running.Wait()
	admin := s.server(r.adminHandler(life.Ready, life.Handlers))
	admin.BaseContext = func(net.Listener) context.Context { return work }
	s.start(admin.Serve, r.admin)

	err := s.begin(ctx, work)
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-s.failed:
		}
	}
	s.drain()
	stop(channel.ErrStopped)
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if admin.Shutdown(ctx) != nil {
		admin.Close()
	}
	return err
}

// begin has the replica take events.
func (s *serving) begin(ctx, work context.Context) error {
	if s.life.Begin != nil {
		err := s.life.Begin(ctx)
		switch {
		case ctx.Err() != nil: // whatever became of a start that was called off is no failure
			s.Logger.Info("stopped while starting", "because", err)
			return nil
		case err != nil:
			return err
		}
	}
	events := ingress.NewServer(s.handler(s.engine.Admit), s.Logger)
	if s.engine.Links != nil {
		events.HandleLinks(claimcheck.LinkPath, s.engine.Links)
	}
	s.taking = append(s.taking, events)
	s.start(events.Serve, s.events)
	if s.eventsTLS != nil {
		secure := s.server(s.secure())
		secure.TLSConfig = s.TLS
		s.taking = append(s.taking, secure)
		s.start(func(l net.Listener) error { return secure.ServeTLS(pacedListener{l}, "", "") }, s.eventsTLS)
	}
	s.ready.begun.Store(true)
	at, atTLS, adminAt := s.Addresses()
	s.Logger.Info("serving", "events", at, "tls", atTLS, "admin", adminAt)
	if s.life.Begun != nil {
		if err := s.life.Begun(); err != nil {
			return err
		}
	}
	for _, run := range s.life.Run {
		s.running.Go(func() { run(work) })
	}
	return nil
}

// start serves on l until the server is shut down.
func (s *serving) start(serve func(net.Listener) error, l net.Listener) {
	s.running.Go(func() {
		if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve on %s: %w", l.Addr(), err)
		}
	})
}

// drain ends what takes and moves events, in order.
func (s *serving) drain() {
	s.ready.stopping.Store(true)
	s.Logger.Info("stopping", "linger", s.Linger, "drain", s.Drain)
	if len(s.taking) > 0 {
		time.Sleep(s.Linger)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.Drain)
	defer cancel()
	var closing sync.WaitGroup
	for _, server := range s.taking {
		closing.Go(func() {
			if err := server.Shutdown(ctx); err != nil {
				s.Logger.Warn("not all requests could be answered", "error", err)
			}
		})
	}
	closing.Wait()
	if err := s.Dispatcher.Close(ctx); err != nil {
		// Nothing is lost: it comes back, to another replica or with the next start.
		s.Logger.Warn("not all that was in flight could be finished", "error", err)
	}
}

func (r *Replica) handler(admit Admission) *ingress.Handler {
	h := &ingress.Handler{
		Dispatcher:    r.Dispatcher,
		Budget:        r.bytes,
		MaxEventBytes: r.engine.Backend.Limits().MaxRecordBytes,
		MaxBodyBytes:  r.engine.MaxStructuredBytes,
		Admit:         admit,
		Observe: func(c *channel.Channel, status, bytes int, took time.Duration) {
			var namespace, name string // empty for what is no channel
			if c != nil {
				namespace, name = c.Namespace, c.Name
			}
			r.metrics.Ingress(namespace, name, status, int64(bytes), took)
		},
	}
	if r.engine.Claims != nil {
		h.Payloads = r.engine.Claims
	}
	return h
}

// secure is what the server with TLS serves: the same as the other.
func (r *Replica) secure() http.Handler {
	events, links := r.handler(r.engine.AdmitTLS), r.engine.Links
	if links == nil {
		return events
	}
	return ingress.WithLinks(events, claimcheck.LinkPath, links)
}

// pacedListener accepts connections whose reader may not pause for too long: it would
// keep a block of a payload in memory.
type pacedListener struct{ net.Listener }

func (l pacedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return pacedConn{c}, nil
}

type pacedConn struct{ net.Conn }

func (c pacedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(ingress.DefaultBodyIdle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (r *Replica) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(r.Logger.Handler(), slog.LevelDebug),
	}
}
