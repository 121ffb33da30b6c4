package natsbackend

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// dialer makes connections for the client library. It does the TLS handshake,
// which the library would put above the wire. The library calls it from one
// goroutine at a time, with its own lock held.
type dialer struct {
	config *Config
	ctx    context.Context //nolint:containedctx // the Backend's life
	// conn is what it dials for, once that exists.
	conn    atomic.Pointer[nats.Conn]
	records bool // travel on it
	// name is the last host that was dialed by name. A server that others have
	// told of comes with its address only: its certificate is for that name.
	name string
}

// InProcessConn implements nats.InProcessConnProvider.
func (d *dialer) InProcessConn() (net.Conn, error) {
	c, err := d.config.Server.InProcessConn()
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c, records: d.records}, nil
}

// SkipTLSHandshake tells the library that it need not.
func (d *dialer) SkipTLSHandshake() bool { return true }

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	if err := d.renewKey(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.config.RequestTimeout)
	defer cancel()
	var n net.Dialer
	conn, err := n.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err = conn.SetDeadline(deadline); err == nil {
		var w *wire
		if w, err = d.greet(ctx, conn, address); err == nil {
			return w, w.SetDeadline(time.Time{})
		}
	}
	conn.Close()
	return nil, err
}

// renewKey has the library say the public key of what the file holds now: it
// reads the seed by itself for each connection, but not that.
func (d *dialer) renewKey() error {
	conn := d.conn.Load()
	if d.config.NKeyFile == "" || conn == nil {
		return nil
	}
	public, err := publicKey(d.config.NKeyFile)
	if err == nil {
		conn.Opts.Nkey = public // under the library's lock
	}
	return err
}

// maxInfo bounds a server's greeting, which lists the servers of its cluster.
const maxInfo = 1 << 20

// greet reads the server's greeting, which tells whether it wants TLS. The library
// gets to read it as well.
func (d *dialer) greet(ctx context.Context, conn net.Conn, address string) (*wire, error) {
	var info []byte
	for bytes.IndexByte(info, '\n') < 0 {
		if len(info) > maxInfo {
			return nil, errLine
		}
		var b [4096]byte
		n, err := conn.Read(b[:])
		if info = append(info, b[:n]...); err != nil && bytes.IndexByte(info, '\n') < 0 {
			return nil, fmt.Errorf("read the server's greeting: %w", err)
		}
	}
	var wants struct {
		Required  bool `json:"tls_required"`
		Available bool `json:"tls_available"`
	}
	line, rest, _ := bytes.Cut(info, []byte("\n"))
	if len(rest) > 0 || json.Unmarshal(bytes.TrimPrefix(line, []byte("INFO ")), &wants) != nil ||
		!wants.Required && !(wants.Available && d.config.secure()) {
		// Without TLS, or an error: the library tells.
		return &wire{Conn: conn, records: d.records, ready: info}, nil
	}
	c, err := d.config.tls()
	if err != nil {
		return nil, err
	}
	c.ServerName = d.serverName(address)
	secured := tls.Client(conn, c)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with server %s: %w", address, err)
	}
	return &wire{Conn: secured, records: d.records, ready: info}, nil
}

// serverName is who the server's certificate must be for.
func (d *dialer) serverName(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if net.ParseIP(host) == nil {
		d.name = host
		return host
	}
	for _, s := range servers(d.config.URL) {
		if u, err := url.Parse(s); err == nil && u.Hostname() == host {
			return host
		}
	}
	if d.name != "" {
		return d.name
	}
	return host
}

// tls reads the files.
func (c *Config) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		content, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(content) {
			return nil, fmt.Errorf("file %s holds no certificate (PEM)", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", c.CertFile, c.KeyFile, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}
