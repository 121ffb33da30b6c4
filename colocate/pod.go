package colocate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// How sidecars are asked who they are, and how often one that does not answer
// well is asked again.
const (
	handshakeTimeout  = 250 * time.Millisecond
	handshakePause    = 250 * time.Millisecond
	handshakePauseMax = 5 * time.Second
	handshakesAtOnce  = 32
	// onDemand is how long one that is asked on demand is asked: it may have to start.
	onDemand = time.Minute
)

// pod is a Pod, and what its sidecar told.
type pod struct {
	Pod
	target egress.Target
	steps  map[string]string // names in load reports, by Service.Name
	// usable is what the sidecar told, nil while it is not to be used.
	usable atomic.Pointer[wire.Handshake]
	cancel context.CancelFunc // ends a handshake; guarded by Pods.mu
	// doubts since a chain last went well there.
	doubts atomic.Int32
}

func newPod(p Pod) *pod {
	d := &pod{Pod: p, steps: make(map[string]string, len(p.Ports))}
	d.target.URL = strings.TrimSuffix(p.Sidecar, "/") + wire.ChainPath
	for name, port := range p.Ports {
		d.steps[name] = strconv.Itoa(int(port))
	}
	return d
}

// same tells whether a Pod is still what it was.
func (p *pod) same(q *Pod) bool {
	return p.ID == q.ID && p.UID == q.UID && p.Namespace == q.Namespace && p.Sidecar == q.Sidecar &&
		p.Zone == q.Zone && p.Weight == q.Weight && p.OnDemand == q.OnDemand && maps.Equal(p.Ports, q.Ports)
}

// rest waits before a pod is asked again that answered a handshake well, and then
// no chain: ever longer, or each chain would be sent there for nothing first.
func (p *pod) rest(ctx context.Context) bool {
	n := p.doubts.Load()
	if n < 2 {
		return ctx.Err() == nil
	}
	return sleep(ctx, min(handshakePause<<min(n-2, 16), handshakePauseMax))
}

// sleep waits about d, and tells whether it did to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d/2 + rand.N(d/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// handshaker asks sidecars.
type handshaker struct {
	client *http.Client
	slots  chan struct{}
}

func newHandshaker() *handshaker {
	return &handshaker{
		client: &http.Client{
			Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // a sidecar does not redirect
			},
		},
		slots: make(chan struct{}, handshakesAtOnce),
	}
}

// untilUsable asks until the sidecar answers well or ctx ends. told hears of each
// failure that differs from the one before.
func (h *handshaker) untilUsable(ctx context.Context, p *pod, told func(error)) (*wire.Handshake, bool) {
	last := ""
	for pause := handshakePause; ; pause = min(2*pause, handshakePauseMax) {
		select {
		case h.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, false
		}
		shake, err := h.ask(ctx, p)
		<-h.slots
		if err == nil {
			return shake, true
		}
		if ctx.Err() != nil {
			return nil, false
		}
		if err.Error() != last {
			last = err.Error()
			told(err)
		}
		if !sleep(ctx, pause) {
			return nil, false
		}
	}
}

// ask makes one handshake.
func (h *handshaker) ask(ctx context.Context, p *pod) (*wire.Handshake, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	url := strings.TrimSuffix(p.Sidecar, "/") + wire.HandshakePath
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("handshake answered with status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxHandshakeBytes+1))
	if err != nil {
		return nil, err
	}
	shake, err := wire.ParseHandshake(body)
	if err != nil {
		return nil, err
	}
	return shake, p.accepts(shake)
}

// accepts tells whether the sidecar is the one of this pod.
func (p *pod) accepts(h *wire.Handshake) error {
	switch {
	case p.UID != "" && h.Pod != p.UID:
		return fmt.Errorf("the sidecar is that of pod %s, want %s", h.Pod, p.UID)
	case h.Namespace != "" && h.Namespace != p.Namespace:
		return fmt.Errorf("the sidecar is in namespace %s, want %s", h.Namespace, p.Namespace)
	}
	var errs []error
	for name, port := range p.Ports {
		if !h.Allows(port) {
			errs = append(errs, fmt.Errorf("the sidecar may not call port %d of %s: it is not on its list", port, name))
		}
	}
	return errors.Join(errs...)
}
