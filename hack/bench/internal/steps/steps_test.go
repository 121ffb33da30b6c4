package steps

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

func TestAHopIsFromAStepsAnswerToTheNextStepsRequest(t *testing.T) {
	t.Parallel()
	r := newRecord()
	for step := 1; step <= workload.Steps; step++ {
		arrived := int64(step) * 1_000_000
		r.arrived(0, step, arrived)
		r.visits[0][step-1].answered.Store(arrived + 400_000)
	}
	r.arrived(0, 3, 9_999_999) // a repeated arrival does not count
	var buf bytes.Buffer
	if err := r.write(&buf, 1); err != nil {
		t.Fatal(err)
	}
	hops, err := Hops(buf.Bytes())
	if want := []float64{600, 600, 600, 600}; err != nil || !slices.Equal(hops, want) {
		t.Errorf("got %v, %v, want %v", hops, err, want)
	}
}

func TestHopsOfAnEventThatDidNotArriveAreAnError(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	if err := newRecord().write(&buf, 1); err != nil {
		t.Fatal(err)
	}
	if hops, err := Hops(buf.Bytes()); err == nil {
		t.Errorf("got %v, want an error", hops)
	}
	if _, err := Hops(buf.Bytes()[1:]); err == nil {
		t.Error("a torn answer passed")
	}
}

// serve runs the steps until the test ends. The ids that reach the last step
// are read from arrivals.
func serve(t *testing.T) (base string, arrivals io.Reader) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, w) }()
	t.Cleanup(func() {
		cancel()
		_ = r.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String(), r
}

// post sends what step made to url.
func post(t *testing.T, url string, id, step int) (workload.Event, error) {
	t.Helper()
	to, err := workload.ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	client := workload.NewClient()
	defer client.CloseIdleConnections()
	return workload.Post(client, to, workload.Event{
		Header: http.Header{
			"Ce-Specversion": {workload.SpecVersion},
			"Ce-Id":          {strconv.Itoa(id)},
			"Ce-Source":      {workload.Source},
			"Ce-Type":        {workload.Type(step)},
			"Content-Type":   {workload.ContentType},
		},
		Data: workload.Data(step),
	})
}

func TestTheDirectChainReachesTheLastStepOnce(t *testing.T) {
	t.Parallel()
	base, arrivals := serve(t)
	const id = 7
	arrived := make(chan uint32, 1)
	go func() {
		var buf [4]byte
		if _, err := io.ReadFull(arrivals, buf[:]); err == nil {
			arrived <- binary.LittleEndian.Uint32(buf[:])
		}
		close(arrived)
	}()
	if _, err := post(t, DirectURL(base, 1), id, 0); err != nil {
		t.Fatal(err)
	}
	if got := <-arrived; got != id {
		t.Errorf("event %d arrived, want %d", got, id)
	}
	if f, err := FetchFaults(t.Context(), base); err != nil || f != (Faults{}) {
		t.Errorf("got faults %+v, %v", f, err)
	}
}

func TestAnEventThatAnotherStepMadeIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	base, _ := serve(t)
	if _, err := post(t, workload.StepURL(base, 3), 0, 1); err == nil {
		t.Error("step 3 took what step 1 made")
	}
	if f, err := FetchFaults(t.Context(), base); err != nil || f.Unexpected != 1 {
		t.Errorf("got faults %+v, %v, want one unexpected", f, err)
	}
}

func TestARepeatedArrivalIsCounted(t *testing.T) {
	t.Parallel()
	r := newRecord()
	if !r.first(130) || r.first(130) || !r.first(131) {
		t.Error("first arrivals are not told from repeated ones")
	}
	if got := r.repeated.Load(); got != 1 {
		t.Errorf("got %d repeated, want 1", got)
	}
}
