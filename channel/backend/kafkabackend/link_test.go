package kafkabackend

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// A connection that is being made when the backend closes fails for that reason.
func TestConnectingEndsForTheReasonThatItsContextEndsFor(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{}, 1)
	for name, d := range map[string]*dialer{
		"dialing": {dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			begun <- struct{}{}
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}},
		"TLS": {
			dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				t.Cleanup(func() { theirs.Close() })
				return ours, nil
			},
			tls: func() (*tls.Config, error) {
				begun <- struct{}{}
				return &tls.Config{MinVersion: tls.VersionTLS12}, nil
			},
		},
	} {
		d.timeout = time.Minute
		ctx, end := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := d.connect(ctx, "127.0.0.1:1")
			done <- err
		}()
		<-begun
		end(backend.ErrClosed)
		wantError(t, name, <-done, backend.ErrClosed)
	}
}
