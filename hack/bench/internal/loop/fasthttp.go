package loop

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

// FastHTTP serves the fasthttp loop on l until ctx ends; the steps are at base.
func FastHTTP(ctx context.Context, l net.Listener, base string) error {
	f := &fastForwarder{client: NewFastClient(base)}
	for step := 1; step <= workload.Steps; step++ {
		f.steps = append(f.steps, workload.StepURL(base, step))
	}
	s := &fasthttp.Server{Handler: f.take}
	defer context.AfterFunc(ctx, func() { _ = s.Shutdown() })()
	if err := s.Serve(l); err != nil {
		return fmt.Errorf("serve the fasthttp loop: %w", err)
	}
	return nil
}

// NewFastClient makes a client of the one host at base that keeps as many
// connections as any load here needs, and never sends an event twice.
func NewFastClient(base string) *fasthttp.HostClient {
	return &fasthttp.HostClient{
		Addr:                     hostOf(base),
		MaxConns:                 1024,
		NoDefaultUserAgentHeader: true,
		RetryIfErr:               func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
	}
}

func hostOf(base string) string {
	var u fasthttp.URI
	if err := u.Parse(nil, []byte(base)); err != nil {
		return base // dialling it fails, and says why
	}
	return string(u.Host())
}

type fastForwarder struct {
	client *fasthttp.HostClient
	steps  []string
}

// take copies the event into a request to step 1, since what ctx holds is
// reused once the 202 is written.
func (f *fastForwarder) take(ctx *fasthttp.RequestCtx) {
	request := fasthttp.AcquireRequest()
	for name, value := range ctx.Request.Header.All() {
		carry(request, name, value)
	}
	request.SetBody(ctx.Request.Body())
	ctx.SetStatusCode(http.StatusAccepted)
	go func() {
		defer fasthttp.ReleaseRequest(request)
		if err := f.forward(request); err != nil {
			slog.Error("an event is lost", "err", err)
		}
	}()
}

// forward posts the request to every step, turning each answer into the next
// request.
func (f *fastForwarder) forward(request *fasthttp.Request) error {
	response := fasthttp.AcquireResponse()
	defer fasthttp.ReleaseResponse(response)
	for i, step := range f.steps {
		if i > 0 {
			request.Reset()
			for name, value := range response.Header.All() {
				carry(request, name, value)
			}
			request.SetBody(response.Body())
		}
		request.SetRequestURI(step)
		request.Header.SetMethod(http.MethodPost)
		if err := f.client.Do(request, response); err != nil {
			return fmt.Errorf("post to %s: %w", step, err)
		}
		if code := response.StatusCode(); code/100 != 2 {
			return fmt.Errorf("post to %s: status %d", step, code)
		}
	}
	return nil
}

// carry copies a header that belongs to an event.
func carry(to *fasthttp.Request, name, value []byte) {
	if bytes.HasPrefix(name, []byte("Ce-")) || string(name) == "Content-Type" {
		to.Header.SetBytesKV(name, value)
	}
}
