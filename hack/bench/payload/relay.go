package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/sidestep-dev/sidestep/hack/bench/internal/process"
)

// relay is the bare relay: what comes in is copied to a file, answered, and copied
// from the file to the step. It checks nothing, hashes nothing, and loses what it has when it dies.
func relay(args []string) error {
	f := flag.NewFlagSet(childArg, flag.ContinueOnError)
	to, dir := f.String("to", "", "URL of the step"), f.String("dir", "", "folder for the files")
	from := f.String("from", "", "URL of a step whose answer is what is copied, if there is one before")
	if err := f.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}}
	var n atomic.Int64
	if err := process.Announce(process.Ready{URL: "http://" + l.Addr().String()}); err != nil {
		return err
	}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Join(*dir, strconv.FormatInt(n.Add(1), 10))
		if err := keep(name, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		header := http.Header{}
		for k, v := range r.Header {
			if strings.HasPrefix(k, "Ce-") || k == "Content-Type" {
				header[k] = v
			}
		}
		go func() {
			if err := relayed(client, *from, *to, name, header); err != nil {
				fmt.Fprintln(os.Stderr, "relay:", err)
			}
		}()
		w.WriteHeader(http.StatusAccepted)
	}))
}

func keep(name string, from io.Reader) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, from); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// relayed passes a file to a step, or its answer from a step before, if there is one.
func relayed(client *http.Client, from, to, name string, header http.Header) (err error) {
	defer func() { err = errors.Join(err, os.Remove(name)) }()
	if from == "" {
		return pass(client, to, name, header, nothing)
	}
	answer := name + "-answer"
	defer func() { err = errors.Join(err, os.Remove(answer)) }()
	if err := pass(client, from, name, header, func(body io.Reader) error { return keep(answer, body) }); err != nil {
		return err
	}
	return pass(client, to, answer, header, nothing)
}

// nothing is done with an answer.
func nothing(answer io.Reader) error {
	_, err := io.Copy(io.Discard, answer)
	return err
}

// pass sends a file to a step, and takes its answer.
func pass(client *http.Client, to, name string, header http.Header, take func(io.Reader) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, to, f)
	if err != nil {
		return err
	}
	r.ContentLength, r.Header = info.Size(), header
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the step answered %s", answer.Status)
	}
	return take(answer.Body)
}
