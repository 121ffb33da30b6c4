package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
)

// How the data of a request came, if not by value.
const (
	byLink = "link" // a URL of a dispatcher
	byFile = "file" // one in the pod's memory
)

const referenceHeader = "Ce-Dataref"

// payload is the data of a request: its body, or what it refers to. The header says that
// it was Sidestep that put the reference there.
func payload(r *http.Request) (data []byte, via string, err error) {
	if r.Header.Get("Sidestep-Claim") == "" {
		data, err = io.ReadAll(r.Body)
		return data, "", err
	}
	reference := r.Header.Get(referenceHeader)
	u, err := url.Parse(reference)
	if err != nil {
		return nil, "", err
	}
	if n, _ := io.Copy(io.Discard, r.Body); n > 0 {
		return nil, "", errors.New("there is a reference, and data")
	}
	if u.Scheme == "file" {
		data, err = os.ReadFile(u.Path)
		return data, byFile, err
	}
	data, err = fetch(r, reference)
	return data, byLink, err
}

// fetch reads what a link leads to, in two parts: a receiver may want the one or the
// other alone.
func fetch(r *http.Request, link string) ([]byte, error) {
	const first = 1000
	var data []byte
	for _, part := range []string{fmt.Sprintf("bytes=0-%d", first-1), fmt.Sprintf("bytes=%d-", first)} {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, link, http.NoBody)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Range", part)
		res, err := httpClient.Do(req)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusPartialContent {
			return nil, fmt.Errorf("%s of the link is answered %s", part, res.Status)
		}
		data = append(data, b...)
	}
	return data, nil
}
