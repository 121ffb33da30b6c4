package kafkabackend

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/segmentio/kafka-go/compress"
)

// A record batch, format 2 (Kafka documentation, section "Record Batch"). It is
// written and read here, and not by kafka-go's protocol package, as that copies
// every record several times and does not tell a batch's last offset.

const (
	batchHeader     = 61
	batchLengthAt   = 8
	batchMagicAt    = 16
	batchCRCAt      = 17
	batchAttrAt     = 21
	batchLastAt     = 23
	batchFirstTime  = 27
	batchMaxTime    = 35
	batchProducerAt = 43
	batchCountAt    = 57

	attrCompression = 7
	attrAppendTime  = 1 << 3
	attrControl     = 1 << 5
)

// maxInflated bounds what a compressed batch of somebody else may become.
const maxInflated = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is that of a batch: CRC-32C.
func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

var errBatch = errors.New("malformed record batch")

// beginBatch appends the header of a batch. endBatch completes it.
func beginBatch(dst []byte) []byte { return append(dst, make([]byte, batchHeader)...) }

// endBatch fills in the header of the batch that begins at dst[from:] and holds
// so many records.
func endBatch(dst []byte, from, records int, now int64) {
	b := dst[from:]
	binary.BigEndian.PutUint32(b[batchLengthAt:], uint32(len(b)-batchMagicAt+4))
	binary.BigEndian.PutUint32(b[12:], ^uint32(0)) // leader epoch: any
	b[batchMagicAt] = 2
	binary.BigEndian.PutUint32(b[batchLastAt:], uint32(records-1))
	binary.BigEndian.PutUint64(b[batchFirstTime:], uint64(now))
	binary.BigEndian.PutUint64(b[batchMaxTime:], uint64(now))
	for i := batchProducerAt; i < batchCountAt; i++ { // no producer id, epoch, sequence
		b[i] = 0xff
	}
	binary.BigEndian.PutUint32(b[batchCountAt:], uint32(records))
	binary.BigEndian.PutUint32(b[batchCRCAt:], checksum(b[batchAttrAt:]))
}

// wireHeader is a header of a record, as it travels.
type wireHeader struct{ name, value []byte }

// wireRecord is a record of a batch. What it refers to belongs to the batch's buffer.
type wireRecord struct {
	offset     int64
	timestamp  int64 // milliseconds
	key, value []byte
	null       bool // there is no value at all
	headers    []wireHeader
}

// batchReader walks the batches of a fetched record set.
type batchReader struct {
	rest []byte
	err  error

	// of the batch that next found
	first, last int64 // offsets
	control     bool

	attributes         int16
	firstTime, maxTime int64
	records            []byte
	left               int
	headers            []wireHeader
}

// next finds the next complete batch. The broker may cut the last one short.
func (r *batchReader) next() bool {
	if r.err != nil || len(r.rest) < batchHeader {
		return false
	}
	length := int64(int32(binary.BigEndian.Uint32(r.rest[batchLengthAt:]))) + 12
	if length > int64(len(r.rest)) {
		return false
	}
	if length < batchHeader || r.rest[batchMagicAt] != 2 {
		r.err = fmt.Errorf("%d bytes, version %d: %w", length, r.rest[batchMagicAt], errBatch)
		return false
	}
	b := r.rest[:length]
	r.rest = r.rest[length:]
	if checksum(b[batchAttrAt:]) != binary.BigEndian.Uint32(b[batchCRCAt:]) {
		r.err = fmt.Errorf("checksum: %w", errBatch)
		return false
	}
	r.first = int64(binary.BigEndian.Uint64(b))
	r.last = r.first + int64(int32(binary.BigEndian.Uint32(b[batchLastAt:])))
	r.attributes = int16(binary.BigEndian.Uint16(b[batchAttrAt:]))
	r.control = r.attributes&attrControl != 0
	r.firstTime = int64(binary.BigEndian.Uint64(b[batchFirstTime:]))
	r.maxTime = int64(binary.BigEndian.Uint64(b[batchMaxTime:]))
	r.left = int(int32(binary.BigEndian.Uint32(b[batchCountAt:])))
	if r.last < r.first || r.left < 0 {
		r.err = fmt.Errorf("offsets %d to %d, %d records: %w", r.first, r.last, r.left, errBatch)
		return false
	}
	r.records, r.err = inflate(b[batchHeader:], r.attributes)
	return r.err == nil
}

func inflate(b []byte, attributes int16) ([]byte, error) {
	c := compress.Compression(attributes & attrCompression)
	if c == 0 {
		return b, nil
	}
	codec := c.Codec()
	if codec == nil {
		return nil, fmt.Errorf("compression %d: %w", c, errBatch)
	}
	d := codec.NewReader(bytes.NewReader(b))
	defer d.Close()
	plain, err := io.ReadAll(io.LimitReader(d, maxInflated+1))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", errors.Join(err, errBatch))
	}
	if len(plain) > maxInflated {
		return nil, fmt.Errorf("more than %d bytes decompressed: %w", maxInflated, errBatch)
	}
	return plain, nil
}

// record reads the next record of the batch. Its headers are good until the next call.
func (r *batchReader) record(w *wireRecord) bool {
	if r.left == 0 || r.err != nil {
		return false
	}
	r.left--
	n, b, ok := varint(r.records)
	if !ok || n < 1 || n > int64(len(b)) {
		r.err = fmt.Errorf("record length: %w", errBatch)
		return false
	}
	r.records = b[n:]
	if !r.parse(w, b[1:n]) { // after its attributes, which mean nothing
		r.err = fmt.Errorf("record: %w", errBatch)
		return false
	}
	return true
}

func (r *batchReader) parse(w *wireRecord, b []byte) bool {
	var delta, offset, count int64
	var ok bool
	if delta, b, ok = varint(b); !ok {
		return false
	}
	if offset, b, ok = varint(b); !ok || offset < 0 || offset > r.last-r.first {
		return false
	}
	w.offset, w.timestamp = r.first+offset, r.firstTime+delta
	if r.attributes&attrAppendTime != 0 {
		w.timestamp = r.maxTime
	}
	if w.key, _, b, ok = field(b); !ok {
		return false
	}
	if w.value, w.null, b, ok = field(b); !ok {
		return false
	}
	if count, b, ok = varint(b); !ok || count < 0 || count > int64(len(b))/2 {
		return false
	}
	r.headers = r.headers[:0]
	for range count {
		var h wireHeader
		if h.name, _, b, ok = field(b); !ok {
			return false
		}
		if h.value, _, b, ok = field(b); !ok {
			return false
		}
		r.headers = append(r.headers, h)
	}
	w.headers = r.headers
	return len(b) == 0
}

// field reads a length and so many bytes; a negative length is no value.
func field(b []byte) (value []byte, null bool, rest []byte, ok bool) {
	n, b, ok := varint(b)
	if !ok || n > int64(len(b)) {
		return nil, false, nil, false
	}
	if n < 0 {
		return nil, true, b, true
	}
	return b[:n:n], false, b[n:], true
}

func varint(b []byte) (int64, []byte, bool) {
	v, n := binary.Varint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

func varintSize(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	n := 1
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// appendWire appends a record to a batch: key, value and headers as they travel.
// It is for the few records of our own topics; see appendRecord for events.
func appendWire(dst []byte, delta int, key, value []byte) []byte {
	n := 1 + 1 + varintSize(int64(delta)) + varintSize(int64(len(key))) + len(key) + 1
	if value == nil {
		n++ // -1
	} else {
		n += varintSize(int64(len(value))) + len(value)
	}
	dst = binary.AppendVarint(dst, int64(n))
	dst = append(dst, 0, 0) // attributes, timestamp delta
	dst = binary.AppendVarint(dst, int64(delta))
	dst = binary.AppendVarint(dst, int64(len(key)))
	dst = append(dst, key...)
	if value == nil {
		dst = binary.AppendVarint(dst, -1)
	} else {
		dst = binary.AppendVarint(dst, int64(len(value)))
		dst = append(dst, value...)
	}
	return append(dst, 0)
}
