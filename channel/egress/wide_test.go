package egress

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// parts is at hand part by part, and then ends in an error.
type parts struct {
	io.Reader
	all [][]byte
	err error
}

func (p *parts) Next(most int) ([]byte, error) {
	if len(p.all) == 0 {
		return nil, p.err
	}
	next := p.all[0]
	if len(next) > most {
		next, p.all[0] = next[:most], next[most:]
		return next, nil
	}
	p.all = p.all[1:]
	return next, nil
}

func TestBodiesAreWrittenAsTheyAreAtHand(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	broken, ab := errors.New("broken"), bytes.Repeat([]byte("ab"), widthSize)
	for name, c := range map[string]struct {
		body io.Reader
		left int64
		want []byte
		err  error
	}{
		"in parts":         {&parts{all: [][]byte{ab, []byte("c"), []byte("d")}, err: io.EOF}, 1 << 20, append(bytes.Clone(ab), "cd"...), nil},
		"more than is due": {&parts{all: [][]byte{[]byte("abc"), []byte("def")}, err: io.EOF}, 4, []byte("abcd"), nil},
		"broken off":       {&parts{all: [][]byte{[]byte("abc")}, err: broken}, 4, []byte("abc"), broken},
		"not at hand":      {bytes.NewReader(ab), 1 << 20, ab, nil},
		"not all of it":    {bytes.NewReader(ab), 5, ab[:5], nil},
	} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, Config{})
			conn, err := client.dialWide(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			peer, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			got := make(chan []byte, 1)
			go func() {
				b, _ := io.ReadAll(peer)
				got <- b
			}()
			limited := &io.LimitedReader{R: c.body, N: c.left}
			n, err := conn.(io.ReaderFrom).ReadFrom(limited)
			conn.Close()
			if b := <-got; !errors.Is(err, c.err) || n != int64(len(c.want)) || !bytes.Equal(b, c.want) {
				t.Errorf("%d bytes were written, %d came, %v; want %d, %v", n, len(b), err, len(c.want), c.err)
			}
			if limited.N != c.left-n {
				t.Errorf("%d bytes are left of %d", limited.N, c.left)
			}
		})
	}
}
