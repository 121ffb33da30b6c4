package workload

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Steps is how many steps the Sequence has.
const Steps = 5

// DataBytes is the size of each event's data: those posted at ingress, and
// those that steps answer.
const DataBytes = 1024

// The parts of an event that never vary.
const (
	SpecVersion = "1.0"
	Source      = "/bench"
	ContentType = "application/json"
)

// stepDigit is where in the data the digit of the step stands that made it.
const stepDigit = len(`{"step":"`)

// Type is the CloudEvents type of what a step answers; step 0 is the generator.
func Type(step int) string { return "dev.sidestep.bench.step" + strconv.Itoa(step) }

// Data is what a step answers: a JSON object of DataBytes bytes. Step 0 is the
// generator.
func Data(step int) []byte {
	head, tail := fmt.Sprintf(`{"step":"%d","pad":"`, step), `"}`
	pad := strings.Repeat("x", DataBytes-len(head)-len(tail))
	return []byte(head + pad + tail)
}

// Check tells whether an event is the one that step made. Every step checks
// what it gets, so that no contender wins by forwarding the wrong thing.
func Check(step int, eventType string, data []byte) error {
	switch {
	case eventType != Type(step):
		return fmt.Errorf("event of type %q where step %d's %q was due", eventType, step, Type(step))
	case len(data) != DataBytes:
		return fmt.Errorf("%d bytes of data where %d were due", len(data), DataBytes)
	case data[stepDigit] != byte('0'+step):
		return fmt.Errorf("data of step %c where step %d's was due", data[stepDigit], step)
	}
	return nil
}

// Carried tells whether an HTTP header belongs to an event in binary mode.
// The name is in canonical form.
func Carried(header string) bool {
	return strings.HasPrefix(header, "Ce-") || header == "Content-Type"
}

// Event is an event in binary mode as the hand-written loops pass it on.
type Event struct {
	Header http.Header // only those Carried
	Data   []byte
}

// Read takes an event out of a message's headers and body.
func Read(header http.Header, body io.Reader, length int64) (Event, error) {
	e := Event{Header: make(http.Header, 8)}
	for name, values := range header {
		if Carried(name) {
			e.Header[name] = values
		}
	}
	if length < 0 {
		var err error
		e.Data, err = io.ReadAll(body)
		return e, err
	}
	e.Data = make([]byte, length)
	_, err := io.ReadFull(body, e.Data)
	return e, err
}

// NewClient is the net/http client of every contender that has one: connections
// are kept, enough of them for any load here, and nothing is asked of the
// transport that a forwarder does not need.
func NewClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 1024,
		DisableCompression:  true,
	}}
}

// Post sends an event and reads the answer completely. An answer other than a
// 2xx is an error.
func Post(c *http.Client, to Target, e Event) (Event, error) {
	request := &http.Request{
		Method:        http.MethodPost,
		URL:           to.url,
		Host:          to.url.Host,
		Header:        e.Header,
		Body:          io.NopCloser(bytes.NewReader(e.Data)),
		ContentLength: int64(len(e.Data)),
	}
	response, err := c.Do(request)
	if err != nil {
		return Event{}, fmt.Errorf("post: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return Event{}, fmt.Errorf("post to %s: status %d", to.url, response.StatusCode)
	}
	answer, err := Read(response.Header, response.Body, response.ContentLength)
	if err != nil {
		return Event{}, fmt.Errorf("read the answer of %s: %w", to.url, err)
	}
	return answer, nil
}
