package rollcall

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Caller asks replicas.
type Caller struct {
	// Client makes the calls; nil: http.DefaultClient.
	Client *http.Client
}

// Call asks the replica whose admin server has the address host:port.
func (c Caller) Call(ctx context.Context, address string, call *Call) (*Answer, error) {
	body, err := json.Marshal(call)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", address, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+Path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", address, err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := c.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
		return nil, fmt.Errorf("call %s: answered %s: %s", address, resp.Status, bytes.TrimSpace(text))
	}
	var a Answer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(&a); err != nil {
		return nil, fmt.Errorf("call %s: read answer: %w", address, err)
	}
	return &a, nil
}
