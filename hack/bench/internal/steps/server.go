package steps

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/workload"
)

// server answers for all steps.
type server struct {
	record   *record
	arrivals chan uint32
	data     [workload.Steps + 1][]byte
	types    [workload.Steps + 1][]string
	buffers  sync.Pool

	client *http.Client
	next   [workload.Steps + 1]workload.Target // of the direct chain, by step
}

// Values of response headers that never vary; net/http does not change them.
var (
	specVersion   = []string{workload.SpecVersion}
	source        = []string{workload.Source}
	contentType   = []string{workload.ContentType}
	contentLength = []string{strconv.Itoa(workload.DataBytes)}
)

// Serve runs the steps on l until ctx ends, and writes the id of every event
// that reaches the last step to arrivals, as four bytes, little-endian.
func Serve(ctx context.Context, l net.Listener, arrivals io.Writer) error {
	s := &server{
		record: newRecord(),
		// More than can be in flight: a step never waits for the writer.
		arrivals: make(chan uint32, 1<<16),
		client:   workload.NewClient(),
	}
	s.buffers.New = func() any { return new([workload.DataBytes + 1]byte) }
	for step := range s.data {
		s.data[step] = workload.Data(step)
		s.types[step] = []string{workload.Type(step)}
	}
	for step := 1; step < workload.Steps; step++ {
		next, err := workload.ParseTarget(DirectURL("http://"+l.Addr().String(), step+1))
		if err != nil {
			return err
		}
		s.next[step] = next
	}
	hs := &http.Server{Handler: s, BaseContext: func(net.Listener) context.Context { return ctx }}
	defer context.AfterFunc(ctx, func() { hs.Close() })()
	var writer sync.WaitGroup
	writer.Go(func() { s.writeArrivals(ctx, arrivals) })
	err := hs.Serve(l)
	writer.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the steps: %w", err)
}

// DirectURL is where a step of the direct chain is.
func DirectURL(base string, step int) string { return base + "/direct/" + strconv.Itoa(step) }

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := s.record.now()
	path := r.URL.Path
	if step := stepOf(path); step > 0 {
		s.serveStep(w, r, step, arrived)
		return
	}
	if rest, ok := strings.CutPrefix(path, "/direct"); ok && stepOf(rest) > 0 {
		s.serveDirect(w, r, stepOf(rest), arrived)
		return
	}
	switch path {
	case "/hang":
		<-r.Context().Done()
	case "/hops":
		s.serveHops(w, r)
	case "/faults":
		_ = json.NewEncoder(w).Encode(Faults{
			Unexpected: s.record.unexpected.Load(),
			Repeated:   s.record.repeated.Load(),
		})
	default:
		http.NotFound(w, r)
	}
}

// stepOf reads "/1" … "/5"; 0 for any other path.
func stepOf(path string) int {
	if len(path) == 2 && path[0] == '/' && path[1] >= '1' && path[1] <= '0'+workload.Steps {
		return int(path[1] - '0')
	}
	return 0
}

func (s *server) serveStep(w http.ResponseWriter, r *http.Request, step int, arrived int64) {
	id, err := s.take(r, step, arrived)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.setHeader(w.Header(), step, r.Header["Ce-Id"])
	w.Header()["Content-Length"] = contentLength
	s.record.answered(id, step)
	_, _ = w.Write(s.data[step])
}

// serveDirect answers when the next step has: what a user would write by hand
// who does not want to lose an event.
func (s *server) serveDirect(w http.ResponseWriter, r *http.Request, step int, arrived int64) {
	id, err := s.take(r, step, arrived)
	if err != nil {
		s.refuse(w, err)
		return
	}
	if step < workload.Steps {
		e := workload.Event{Header: make(http.Header, 8), Data: s.data[step]}
		s.setHeader(e.Header, step, r.Header["Ce-Id"])
		s.record.answered(id, step)
		if _, err := workload.Post(s.client, s.next[step], e); err != nil {
			s.refuse(w, err)
			return
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

func (s *server) setHeader(h http.Header, step int, id []string) {
	h["Ce-Specversion"] = specVersion
	h["Ce-Id"] = id
	h["Ce-Source"] = source
	h["Ce-Type"] = s.types[step]
	h["Content-Type"] = contentType
}

// take reads a request's event and notes its arrival.
func (s *server) take(r *http.Request, step int, arrived int64) (uint32, error) {
	parsed, err := strconv.ParseUint(r.Header.Get("Ce-Id"), 10, 32)
	if err != nil || parsed >= MaxEvents {
		return 0, fmt.Errorf("id %q is not a number below %d", r.Header.Get("Ce-Id"), MaxEvents)
	}
	id := uint32(parsed)
	buf := s.buffers.Get().(*[workload.DataBytes + 1]byte)
	defer s.buffers.Put(buf)
	n, err := io.ReadFull(r.Body, buf[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read the request: %w", err)
	}
	if err := workload.Check(step-1, r.Header.Get("Ce-Type"), buf[:n]); err != nil {
		return 0, err
	}
	s.record.arrived(id, step, arrived)
	if step == workload.Steps && s.record.first(id) {
		s.arrivals <- id
	}
	return id, nil
}

func (s *server) refuse(w http.ResponseWriter, err error) {
	s.record.unexpected.Add(1)
	http.Error(w, err.Error(), http.StatusBadRequest)
}

func (s *server) serveHops(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil || n < 0 || n > Recorded {
		http.Error(w, fmt.Sprintf("n must be a number up to %d", Recorded), http.StatusBadRequest)
		return
	}
	_ = s.record.write(w, n)
}

func (s *server) writeArrivals(ctx context.Context, w io.Writer) {
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-s.arrivals:
			buf = binary.LittleEndian.AppendUint32(buf[:0], id)
		}
		for range len(s.arrivals) {
			buf = binary.LittleEndian.AppendUint32(buf, <-s.arrivals)
		}
		if _, err := w.Write(buf); err != nil {
			return // the harness has gone, and this process goes with it
		}
	}
}
