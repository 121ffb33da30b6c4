package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config of a Server. Dir, Name, Listen and PasswordFile are required.
type Config struct {
	// Dir holds the files. One process at a time may use it.
	Dir string
	// Name of the server: unique among its peers, and the same at each start.
	Name string
	// Listen is where clients connect, Cluster where peers do, and Monitor
	// where /healthz is served ("" for nowhere).
	Listen, Cluster, Monitor string
	// Peers are host:port of Cluster of all servers, this one among them; none
	// for a single one.
	Peers []string
	// User and the content of PasswordFile are what clients and peers show.
	User, PasswordFile string
	// SyncAlways has every write reach the disk before it is confirmed.
	SyncAlways bool
	// MaxPayload bounds a message, in bytes; 0: 8 MiB.
	MaxPayload int32
	Logger     *slog.Logger
}

const (
	defaultMaxPayload = 8 << 20
	ready             = 2 * time.Minute
	minPassword       = 16
	maxPassword       = 1 << 10
	clusterName       = "sidestep"
	// keepFree is the share of the disk, in percent, that is left free: a
	// server whose disk is full loses more than what does not fit.
	keepFree = 10
)

// Validate tells what is wrong with c, all of it.
func (c *Config) Validate() error {
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"a folder", c.Dir},
		{"a name", c.Name},
		{"an address for clients", c.Listen},
		{"an address for peers", c.Cluster},
		{"a user", c.User},
		{"a file with a password", c.PasswordFile},
	} {
		if f.value == "" {
			errs = append(errs, errors.New("want "+f.name))
		}
	}
	return errors.Join(errs...)
}

// Run serves until ctx ends.
func Run(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("configure store: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	options, err := c.options()
	if err != nil {
		return fmt.Errorf("configure store: %w", err)
	}
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("configure store: %w", err)
	}
	s.SetLoggerV2(&logger{c.Logger}, false, false, false)
	s.Start()
	defer end(s)
	if len(c.Peers) <= 1 {
		companion, err := server.NewServer(company(options))
		if err != nil {
			return fmt.Errorf("configure the store's companion: %w", err)
		}
		companion.SetLoggerV2(&logger{c.Logger}, false, false, false)
		companion.Start()
		defer end(companion)
	}
	if !s.ReadyForConnections(ready) {
		return fmt.Errorf("the store in %s did not become ready within %v", c.Dir, ready)
	}
	c.Logger.Info("serving", "clients", s.ClientURL(), "files", c.Dir, "sync", c.SyncAlways, "peers", len(c.Peers))
	<-ctx.Done()
	c.Logger.Info("stopping")
	return nil
}

func end(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func (c *Config) options() (*server.Options, error) {
	password, err := readPassword(c.PasswordFile)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	most, err := room(c.Dir)
	if err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName:        c.Name,
		JetStream:         true,
		StoreDir:          filepath.Clean(c.Dir),
		SyncAlways:        c.SyncAlways,
		JetStreamMaxStore: most,
		MaxPayload:        c.MaxPayload,
		Username:          c.User,
		Password:          password,
		NoSigs:            true,
		Cluster:           server.ClusterOpts{Name: clusterName, Username: c.User, Password: password},
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = defaultMaxPayload
	}
	if o.Host, o.Port, err = split(c.Listen); err == nil {
		o.Cluster.Host, o.Cluster.Port, err = split(c.Cluster)
	}
	if err == nil && c.Monitor != "" {
		o.HTTPHost, o.HTTPPort, err = split(c.Monitor)
	}
	if err != nil {
		return nil, err
	}
	peers := c.Peers
	if len(peers) <= 1 {
		// It wants a route, be it to itself.
		peers = []string{c.Cluster}
		if err := beginAlone(o.StoreDir, c.Name); err != nil {
			return nil, err
		}
	}
	for _, p := range peers {
		if _, _, err := split(p); err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", User: url.UserPassword(c.User, password), Host: p})
	}
	return o, nil
}

func split(address string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: want host:port: %w", address, err)
	}
	if port, err = strconv.Atoi(p); err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("address %q: want a port from 1 to 65535", address)
	}
	return host, port, nil
}

// readPassword never has the password in its error.
func readPassword(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	p := strings.TrimSpace(string(b))
	if len(p) < minPassword || len(p) > maxPassword {
		return "", fmt.Errorf("read password: %s has %d bytes: want %d to %d", file, len(p), minPassword, maxPassword)
	}
	return p, nil
}

// room is how many bytes the server may use of the disk that dir is on.
func room(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask for the size of the disk of %s: %w", dir, err)
	}
	return int64(s.Blocks) * s.Bsize / 100 * (100 - keepFree), nil //nolint:gosec // sizes of disks
}

// logger passes what the server has to say to slog, without its notices.
type logger struct{ log *slog.Logger }

func (l *logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *logger) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *logger) Debugf(string, ...any)           {}
func (l *logger) Tracef(string, ...any)           {}
