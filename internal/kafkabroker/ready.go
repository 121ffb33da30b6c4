package kafkabroker

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"
)

// ready asks for the cluster's metadata: the broker knows itself as a part of
// it as soon as it serves. Metadata v1 has a plain header and few fields.
func ready(ctx context.Context, address string) error {
	var d net.Dialer
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	// size, api key 3, version 1, correlation id, client id "", no topics
	request := []byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0}
	if _, err := c.Write(request); err != nil {
		return err
	}
	var head [12]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	if brokers := binary.BigEndian.Uint32(head[8:]); brokers == 0 {
		return errors.New("no broker has registered yet")
	}
	return nil
}
