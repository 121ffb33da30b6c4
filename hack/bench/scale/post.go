package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// posters send at once.
const posters = 64

// post sends an event to each URL, and returns how long it took until all were
// accepted.
func post(ctx context.Context, urls []string, prefix string) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: posters}}
	defer client.CloseIdleConnections()
	began := time.Now()
	next := make(chan int)
	var sending sync.WaitGroup
	for range posters {
		sending.Go(func() {
			for i := range next {
				if err := postOne(ctx, client, urls[i], fmt.Sprint(prefix, "-", i)); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range urls {
		next <- i
	}
	close(next)
	sending.Wait()
	return time.Since(began), context.Cause(ctx)
}

func postOne(ctx context.Context, client *http.Client, url, id string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"scale":true}`))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": "/scale", "Ce-Type": "dev.sidestep.scale",
		"Content-Type": "application/json",
	} {
		r.Header.Set(name, value)
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("POST %s: %s: %.200s", url, resp.Status, body)
	}
	return err
}
