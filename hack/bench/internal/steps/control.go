package steps

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Faults are what was not as it should be.
type Faults struct {
	// Unexpected events were not what the step before had answered.
	Unexpected int64 `json:"unexpected"`
	// Repeated events reached the last step more than once.
	Repeated int64 `json:"repeated"`
}

// FetchHops asks the steps at base for the hops of the events with ids
// 0 … n-1, in microseconds.
func FetchHops(ctx context.Context, base string, n int) ([]float64, error) {
	body, err := get(ctx, base+"/hops?n="+strconv.Itoa(n))
	if err != nil {
		return nil, err
	}
	return Hops(body)
}

// FetchFaults asks the steps at base what was not as it should be.
func FetchFaults(ctx context.Context, base string) (Faults, error) {
	var f Faults
	body, err := get(ctx, base+"/faults")
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return f, fmt.Errorf("read the steps' faults: %w", err)
	}
	return f, nil
}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the steps: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the steps: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read what the steps say: %w", err)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("ask the steps for %s: status %d: %s", url, response.StatusCode, body)
	}
	return body, nil
}
