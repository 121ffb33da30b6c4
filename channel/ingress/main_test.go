package ingress_test

import (
	"net/http"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

// netHTTP is set in a process that runs all tests on net/http's server.
const netHTTP = "SIDESTEP_TEST_INGRESS_NETHTTP"

func onNetHTTP() bool { return os.Getenv(netHTTP) != "" }

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// One sleeps for 10 s before it sees that its server has ended, the
		// other keeps the date for the process.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// client does not keep connections: none outlives its test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// TestNetHTTPServesTheSame runs every test again on net/http's server.
func TestNetHTTPServesTheSame(t *testing.T) {
	if onNetHTTP() {
		t.Skip("this is the other run")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "-test.shuffle=on")
	c.Env = append(os.Environ(), netHTTP+"=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
