package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/sidestep-dev/sidestep/channel/event"
)

// heldPayload is in memory while it has data, and counts.
type heldPayload struct {
	data             []byte
	size             int64
	held, open, done int
}

func (p *heldPayload) Size() int64 { return p.size }

func (p *heldPayload) Hold() ([]byte, func()) {
	if p.data == nil {
		return nil, nil
	}
	p.held++
	return p.data, func() { p.done++ }
}

func (p *heldPayload) Open(context.Context) (io.ReadCloser, error) {
	p.open++
	return io.NopCloser(bytes.NewReader(bytes.Repeat([]byte("x"), int(p.size)))), nil
}

// What is in memory is sent out of it, where the lean path is taken, and released in the
// end, whatever came of it.
func TestPayloadsInMemoryAreSentOutOfIt(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	data := bytes.Repeat([]byte("x"), size)
	onBoth(t, func(t *testing.T, tr transport) {
		for name, c := range map[string]struct {
			payload heldPayload
			format  Format
			held    bool
		}{
			"in memory":     {heldPayload{data: data, size: size}, Binary, !tr.secure},
			"not in memory": {heldPayload{size: size}, Binary, false},
			"structured":    {heldPayload{data: data, size: size}, Structured, false},
		} {
			target := tr.serve(t, func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil || r.ContentLength != int64(len(b)) || c.format == Binary && !bytes.Equal(b, data) {
					t.Errorf("%s: %d bytes of %d came, or others, %v", name, len(b), r.ContentLength, err)
				}
				w.WriteHeader(http.StatusAccepted)
			})
			e := &event.Event{ID: "1", Source: "/s", Type: "t", Payload: &c.payload}
			res := newClient(t, Config{}).Send(t.Context(), &Request{Target: target, Event: e}, c.format, patience)
			if res.Err != nil || res.Status != http.StatusAccepted {
				t.Errorf("%s: status %d, %v", name, res.Status, res.Err)
			}
			p := c.payload
			if (p.held == 1) != c.held || (p.open > 0) == c.held || p.done != p.held {
				t.Errorf("%s: held %d times, released %d times, opened %d times", name, p.held, p.done, p.open)
			}
		}
	})
}

// A receiver that answers before it has read everything, and hangs up: its answer counts.
func TestAnAnswerBeforeAllOfAPayloadCounts(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	target := transports[0].serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	for _, data := range [][]byte{make([]byte, size), nil} {
		p := &heldPayload{data: data, size: size}
		e := &event.Event{ID: "1", Source: "/s", Type: "t", Payload: p}
		res := newClient(t, Config{}).Send(t.Context(), &Request{Target: target, Event: e}, Binary, patience)
		if res.Status != http.StatusRequestEntityTooLarge || !errors.Is(res.Err, ErrStatus) || p.done != p.held {
			t.Errorf("in memory %v: status %d, %v, released %d times of %d", data != nil, res.Status, res.Err, p.done, p.held)
		}
	}
}
