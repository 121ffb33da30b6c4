package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What the demo says of its events.
const (
	eventSource = "/sidestep/demo"
	pictureType = "dev.sidestep.samples.picture"
	// badType is what the step flaky wants nothing of.
	badType = pictureType + ".bad"
)

// letter is an event to be posted: a picture of the repository.
type letter struct {
	id   string
	kind string // the CloudEvents type
	path string
	data []byte
}

func readLetter(id, kind, path string) (letter, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return letter{}, fmt.Errorf("read picture: %w", err)
	}
	return letter{id: id, kind: kind, path: path, data: data}, nil
}

func (l *letter) subject() string {
	return strings.TrimSuffix(filepath.Base(l.path), filepath.Ext(l.path))
}

func (l *letter) contentType() string { return http.DetectContentType(l.data) }

// headers are those of a CloudEvent in binary mode, names and values in turn.
func (l *letter) headers() []string {
	return []string{
		"ce-specversion", "1.0",
		"ce-id", l.id,
		"ce-source", eventSource,
		"ce-type", l.kind,
		"ce-subject", l.subject(),
		"content-type", l.contentType(),
	}
}

// post hands the event to a channel. When it returns without an error, the
// event is durable.
func post(ctx context.Context, client *http.Client, url string, l *letter) (at time.Time, took time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(l.data))
	if err != nil {
		return at, 0, fmt.Errorf("post %s: %w", l.id, err)
	}
	h := l.headers()
	for i := 0; i < len(h); i += 2 {
		req.Header.Set(h[i], h[i+1])
	}
	at = time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return at, 0, fmt.Errorf("post %s: %w", l.id, err)
	}
	took = time.Since(at)
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // for the message
	if resp.StatusCode != http.StatusAccepted {
		return at, took, fmt.Errorf("post %s to %s: got %s, want 202: %s", l.id, url, resp.Status, bytes.TrimSpace(body))
	}
	return at, took, nil
}

// curl is a command line that does what post does.
func curl(url string, l *letter) string {
	var b strings.Builder
	fmt.Fprintf(&b, "curl -v %s", quote(url))
	h := l.headers()
	for i := 0; i < len(h); i += 2 {
		fmt.Fprintf(&b, " \\\n  -H %s", quote(h[i]+": "+h[i+1]))
	}
	fmt.Fprintf(&b, " \\\n  --data-binary %s", quote("@"+l.path))
	return b.String()
}

// quote makes one word of s for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
