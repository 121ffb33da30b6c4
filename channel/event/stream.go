package event

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
)

// StructuredStream is e in the JSON format as a stream, for an event whose data
// is not in memory: data is what its Payload yields. length is that of the
// whole. The data travels in base64, whatever its type: whether it could stand in
// the document as it is, only its end tells.
func StructuredStream(e *Event, data io.Reader) (doc io.Reader, length int64) {
	bare := *e
	bare.Data, bare.Payload = nil, nil
	head := AppendStructured(nil, &bare)
	head = head[:len(head)-1] // the brace that ends it
	size := e.Size()
	switch {
	case e.SpecVersion != "0.3":
		head = append(head, `,"data_base64":"`...)
	case e.Get("datacontentencoding") != "":
		// It was encoded by who made it.
		head = append(head, `,"data":"`...)
		data = &plainText{data}
	default:
		head = append(head, `,"datacontentencoding":"base64","data":"`...)
	}
	if _, encoded := data.(*plainText); !encoded {
		size = int64(base64.StdEncoding.EncodedLen(int(size)))
		data = &base64Reader{src: data}
	}
	const tail = `"}`
	return io.MultiReader(bytes.NewReader(head), data, bytes.NewReader([]byte(tail))), int64(len(head)) + size + int64(len(tail))
}

// base64Reader encodes what src yields.
type base64Reader struct {
	src  io.Reader
	raw  [24 << 10]byte // a multiple of 3
	text [32 << 10]byte
	left []byte // of text
	err  error
}

func (r *base64Reader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		n, err := io.ReadFull(r.src, r.raw[:])
		if err == io.ErrUnexpectedEOF { //nolint:errorlint // ReadFull's own
			err = io.EOF
		}
		r.err = err
		base64.StdEncoding.Encode(r.text[:], r.raw[:n])
		r.left = r.text[:base64.StdEncoding.EncodedLen(n)]
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// plainText lets through what needs no escape in a JSON string, such as base64.
type plainText struct{ src io.Reader }

func (r *plainText) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	for _, c := range p[:n] {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return 0, fmt.Errorf("%w: it is not in the encoding that it says: byte %#02x", ErrInvalid, c)
		}
	}
	return n, err
}
