package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func TestTheProgramServesAllStepsUntilItIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"--all", "--listen", "127.0.0.1:0", "--out", t.TempDir(), "--output", "json"}, w, io.Discard)
		ended <- errors.Join(err, w.Close())
	}()
	lines := bufio.NewScanner(r)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	urls := make(map[string]string)
	for _, name := range stepNames() {
		if !lines.Scan() {
			t.Fatalf("ended before %s listened: %v", name, lines.Err())
		}
		var l listeningLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil || l.Listening != name {
			t.Fatalf("got line %q, want that of %s", lines.Text(), name)
		}
		urls[name] = l.URL
	}
	for name, url := range urls {
		resp, err := client.Post(url, "text/plain", strings.NewReader("no event"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s answered %d to what is no event, want 400", name, resp.StatusCode)
		}
	}
	cancel()
	if lines.Scan() {
		t.Errorf("unexpected line %q", lines.Text())
	}
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestBadFlagsAreToldBeforeAnythingListens(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{},
		{"--all", "--step", "resize"},
		{"--step", "polish"},
		{"--all", "--listen", "9101"},
		{"--all", "--listen", "127.0.0.1:http"},
		{"--all", "--output", "xml"},
		{"--all", "more"},
		{"--loud"},
	} {
		if err := run(t.Context(), args, io.Discard, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%q: got %v, want %v", args, err, errUsage)
		}
	}
}

// What the samples say is what the program serves, and what the standalone
// dispatcher accepts: file by file, and the folder that they are in.
func TestTheSamplesLoadWithoutProblems(t *testing.T) {
	t.Parallel()
	pics, prints := filepath.Join("..", "pics.yaml"), filepath.Join("..", "prints.yaml")
	for _, c := range []struct {
		paths     []string
		addresses []string
	}{
		{[]string{pics}, []string{"pics"}},
		{[]string{prints}, []string{"prints"}},
		{[]string{".."}, []string{"films", "pics", "prints"}},
		{[]string{"..", pics, prints}, []string{"films", "pics", "prints"}},
	} {
		set, err := manifest.Load(c.paths)
		if err != nil {
			t.Fatal(err)
		}
		_, addresses, err := set.Table(manifest.TableOptions{
			BaseURL: "http://127.0.0.1:8080",
			UID:     func(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name },
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range addresses {
			got = append(got, a.Name)
		}
		if !slices.Equal(got, c.addresses) {
			t.Errorf("%v: addresses are those of %v, want %v", c.paths, got, c.addresses)
		}
	}
}

func TestEveryStepOfTheSamplesIsServedWhereTheySay(t *testing.T) {
	t.Parallel()
	set, err := manifest.Load([]string{".."})
	if err != nil {
		t.Fatal(err)
	}
	table, _, err := set.Table(manifest.TableOptions{
		BaseURL: "http://127.0.0.1:8080",
		UID:     func(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name },
	})
	if err != nil {
		t.Fatal(err)
	}
	const firstPort = 9101
	known := make(map[string]bool)
	for i := range stepNames() {
		known[fmt.Sprint("http://127.0.0.1:", firstPort+i)] = false
	}
	see := func(d *channel.Destination) {
		if d == nil || d.Channel != "" {
			return
		}
		url := d.Target.URL
		for _, path := range []string{"/wide", "/tall"} {
			url = strings.TrimSuffix(url, path)
		}
		if _, ok := known[url]; !ok {
			t.Errorf("nothing is served at %s", d.Target.URL)
		}
		known[url] = true
	}
	for _, c := range table.Channels {
		for _, s := range c.Subscriptions {
			see(&channel.Destination{Target: *s.Subscriber})
			see(s.Reply)
			see(s.DeadLetter)
		}
	}
	for url, used := range known {
		if !used {
			t.Errorf("the step at %s is in no sample", url)
		}
	}
}
