package ingress_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// In these tests time passes in pauses of the test's; what is checked is what came of
// them, and not how long anything took.

func TestUploadGoesOnForAsLongAsBytesKeepComing(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(n int) string{
		"of known length": func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n", n) },
		"in memory":       func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n", n) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, withPayloads)
			f.handler.BodyIdle, f.handler.BodyRate = 2*time.Second, 1<<10
			f.serve()
			n := 40 * threshold
			if name == "in memory" {
				n = threshold
			}
			body := bytesOf(1, n)
			c := f.dial()
			fmt.Fprint(c, head+begin(n))
			// 20 parts, 3 s in all: longer than any pause may be.
			for i := range 20 {
				time.Sleep(150 * time.Millisecond)
				if _, err := c.Write(body[i*n/20 : (i+1)*n/20]); err != nil {
					t.Fatal(err)
				}
			}
			f.wantStatus(c, http.StatusAccepted)
			if n > threshold {
				if got := f.stored(); !bytes.Equal(got, body) {
					t.Errorf("of %d bytes %d were stored, or others", n, len(got))
				}
			}
		})
	}
}

func TestUploadThatStopsIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]string{
		"a payload":        "Content-Length: 1000000\r\n\r\n" + string(bytesOf(1, 300<<10)),
		"a small event":    "Content-Length: 100\r\n\r\nhalf",
		"chunks":           fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s", 1_000_000, bytesOf(1, 300<<10)),
		"chunks, no end":   fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", 300<<10, bytesOf(1, 300<<10)),
		"not a byte of it": "Content-Length: 1000000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, withPayloads)
			f.handler.BodyIdle = 200 * time.Millisecond
			f.serve()
			c := f.dial()
			fmt.Fprint(c, head+begin)
			f.wantStatus(c, http.StatusRequestTimeout)
			f.wantStored(0)
			f.wantObjects(0)
			f.wantBudgetFree()
		})
	}
}

// A byte now and then keeps no place.
func TestUploadThatTricklesIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withPayloads)
	f.handler.BodyIdle, f.handler.BodyRate = time.Second, 1<<20
	f.serve()
	c := f.dial()
	fmt.Fprint(c, head+"Content-Length: 1000000\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	f.wantStatus(c, http.StatusRequestTimeout)
	c.Close()
	<-done
	f.wantObjects(0)
	f.wantBudgetFree()
}

// A connection that carried a slow upload carries the next event.
func TestConnectionOfASlowUploadIsOfFurtherUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, withPayloads)
	f.handler.BodyIdle = 2 * time.Second
	f.serve()
	c := f.dial()
	for i := range 3 {
		body := bytesOf(byte(i), 4*threshold)
		fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n", head, len(body))
		time.Sleep(100 * time.Millisecond)
		fmt.Fprintf(c, "%s", body)
		f.wantStatus(c, http.StatusAccepted)
		time.Sleep(2200 * time.Millisecond) // longer than a body may pause
	}
	f.wantObjects(3)
}
