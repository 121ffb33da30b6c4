package colocate

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/colocate/sidecar"
)

// echo is a step that costs next to nothing.
func echo(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	for k, v := range ctx.Request.Header.All() {
		if bytes.HasPrefix(k, []byte("Ce-")) || bytes.HasPrefix(k, []byte("ce-")) {
			h.SetBytesKV(k, v)
		}
	}
	ctx.SetContentTypeBytes(ctx.Request.Header.ContentType())
	ctx.SetBody(ctx.PostBody())
}

// BenchmarkRun is a chain of five steps in a pod, without the store: dispatcher's
// side, sidecar and steps in one process.
func BenchmarkRun(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	steps := &fasthttp.Server{Handler: echo}
	go steps.Serve(l)      //nolint:errcheck // ends with Shutdown
	defer steps.Shutdown() //nolint:errcheck // nothing depends on it
	_, text, _ := net.SplitHostPort(l.Addr().String())
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		b.Fatal(err)
	}
	client := egress.New(egress.Config{})
	defer client.Close()
	p := startPod(b, "p", func(c *sidecar.Config) { c.Allow = []sidecar.Port{{Number: uint16(port)}} })
	pods, err := New(Config{Key: slipKey, Sender: client})
	if err != nil {
		b.Fatal(err)
	}
	defer pods.Close()
	base := "http://" + l.Addr().String()
	if err := pods.SetMap(&Map{
		Services: []Service{{Name: "ns/steps", Hosts: []string{HostOf(base)}}},
		Pods:     []Pod{{ID: "p", Namespace: "ns", Sidecar: p.url, Ports: map[string]uint16{"ns/steps": uint16(port)}}},
	}); err != nil {
		b.Fatal(err)
	}
	chain := &channel.Chain{}
	for i := range 5 {
		chain.Steps = append(chain.Steps, &channel.Subscription{
			UID: fmt.Sprint("7d2f5a1c-0000-0000-0000-00000000000", i), Namespace: "ns", Name: fmt.Sprint("step-", i),
			Subscriber: &egress.Target{URL: fmt.Sprint(base, "/", i)}, Reply: &channel.Destination{Channel: "ns/next"},
		})
	}
	e := ev("1")
	e.Data = bytes.Repeat([]byte("x"), 1024)
	run := func() channel.PodResult {
		return pods.Run(b.Context(), &channel.PodRun{
			Chain: chain, Most: 5, Event: e, Budget: time.Second, AttemptTimeout: time.Minute,
		})
	}
	for run().Outcome == channel.NotRun {
		time.Sleep(time.Millisecond)
	}
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprint(clients, " at a time"), func(b *testing.B) {
			b.SetParallelism(clients)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if r := run(); r.Outcome != channel.PodCompleted || r.Ran != 5 {
						b.Errorf("%+v", r)
						return
					}
				}
			})
		})
	}
}
