package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// pod is a sidecar and a step, as processes.
type pod struct {
	dir           string
	step, sidecar *exec.Cmd
	url           string
	signer        *wire.Signer
	slip          *wire.Slip
	client        *fasthttp.HostClient
}

// startPod builds the sidecar and starts it beside a step.
func startPod(ctx context.Context, o options) (p *pod, err error) {
	p = new(pod)
	if p.dir, err = os.MkdirTemp("", "sidestep-shed-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	program := filepath.Join(p.dir, "sidecar")
	if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./cmd/sidecar").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the sidecar (in the root of the repository): %w\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var port string
	if p.step, port, err = start(ctx, self, "step", o.service.String()); err != nil {
		return nil, err
	}
	key, err := p.key()
	if err != nil {
		return nil, err
	}
	if p.sidecar, p.url, err = start(ctx, program, "--listen", "127.0.0.1:0", "--allow", port, "--trust-keys", key,
		"--pod-uid", "shed", "--max-in-flight", strconv.Itoa(o.places), "--log-level", "warn"); err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	p.slip = &wire.Slip{Pod: "shed", Steps: []wire.Step{{UID: "step", Port: uint16(n), Path: "/"}}}
	p.client = &fasthttp.HostClient{Addr: strings.TrimPrefix(p.url, "http://"), MaxConns: o.workers, ReadTimeout: time.Minute}
	return p, nil
}

func (p *pod) key() (file string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	p.signer = wire.NewSigner(private)
	file = filepath.Join(p.dir, "key.pem")
	return file, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
}

// start runs a child and returns the first line that it prints.
func start(ctx context.Context, path string, args ...string) (*exec.Cmd, string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, "", fmt.Errorf("%s %v ended before it was ready: %w", path, args, err)
	}
	return cmd, strings.TrimSpace(line), nil
}

func (p *pod) stop() {
	for _, cmd := range []*exec.Cmd{p.sidecar, p.step} {
		if cmd != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	os.RemoveAll(p.dir)
}

// resident is the memory that the sidecar has.
func (p *pod) resident() string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.sidecar.Process.Pid))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				return err.Error()
			}
			return fmt.Sprintf("%.1f MiB", float64(kib)/1024)
		}
	}
	return "unknown"
}

// connections is how many sockets the sidecar has open, that on which it listens
// included.
func (p *pod) connections() (n int) {
	dir := fmt.Sprintf("/proc/%d/fd", p.sidecar.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return -1
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// serveStep is a step that takes its time and answers what it was sent.
func serveStep(service string) {
	d, err := time.ParseDuration(service)
	if err != nil {
		fmt.Fprintln(os.Stderr, "shed:", err)
		os.Exit(2)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "shed:", err)
		os.Exit(1)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	fmt.Println(port)
	fmt.Fprintln(os.Stderr, http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // on loopback
		b, _ := io.ReadAll(r.Body)
		time.Sleep(d)
		for _, name := range []string{"Ce-Specversion", "Ce-Id", "Ce-Source", "Ce-Type", "Content-Type"} {
			w.Header()[name] = r.Header[name]
		}
		_, _ = w.Write(b)
	})))
	os.Exit(1)
}
